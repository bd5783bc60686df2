"""Coverage-guided fuzzing: `make fuzz`. What is checked of an input is in `checks`, and needs no fuzzer."""
