package wsreceive

import (
	"fmt"

	"wsrelay/internal/cli"
	"wsrelay/internal/metrics"
	"wsrelay/receiver"
)

func (c *serveCmd) checkMetrics() error {
	if c.Metrics == "" {
		return nil
	}
	if err := metrics.CheckAddr(c.Metrics, c.AllowInsecure); err != nil {
		return &cli.Error{
			Err: fmt.Errorf("--metrics: %w", err), Effect: nothingReceived, Code: exitConfig,
			Hint: "use 127.0.0.1:9515, say; --allow-insecure if you trust the network",
		}
	}
	return nil
}

// metricsOf gives what writes the metrics of the receiver and, if it has some, of
// its store.
func metricsOf(rcv *receiver.Receiver, store receiver.Store) func(*metrics.Text) {
	measured, ok := unwrapLive(store).(interface{ Metrics(t *metrics.Text) })
	return func(t *metrics.Text) {
		rcv.Metrics(t)
		if ok {
			measured.Metrics(t)
		}
		t.Gauge("wsreceive_build_info", "1.", 1, "version", cli.Version())
		metrics.Process(t)
	}
}
