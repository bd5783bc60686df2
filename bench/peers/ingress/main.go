// The compiled limit of the ingress: net/http and franz-go, a body on the log before its 200.
// It must not do more than that: it neither verifies nor names nor dedupes what comes in.
package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const maxBodyBytes = 1024 * 1024

func main() {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), ",")...),
		kgo.DefaultProduceTopic(os.Getenv("BENCH_TOPIC")),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// As redrive's producer: idempotent (the default here), without linger, and uncompressed.
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := client.Ping(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := read(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := client.ProduceSync(r.Context(), &kgo.Record{Value: body}).FirstErr(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	})
	address := net.JoinHostPort(os.Getenv("INGEST_HOST"), os.Getenv("INGEST_PORT"))
	log.Fatal(http.ListenAndServe(address, nil))
}

// read allocates once where the length is known.
func read(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > maxBodyBytes {
		return io.ReadAll(io.LimitReader(r.Body, maxBodyBytes))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}
