package wsreceive

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

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
	measured, ok := behind(store).(interface{ Metrics(t *metrics.Text) })
	return func(t *metrics.Text) {
		rcv.Metrics(t)
		if ok {
			measured.Metrics(t)
		}
		t.Gauge("wsreceive_build_info", "1.", 1, "version", cli.Version())
		metrics.Process(t)
	}
}

// metrics serves them on an address of their own, if there is one, until ctx
// ends or it is stopped.
func (c *serveCmd) metrics(ctx context.Context, write func(*metrics.Text), log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if c.Metrics != "" {
		wg.Go(func() { metrics.Serve(ctx, c.Metrics, write, log) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
