package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"wsrelay/console"
	"wsrelay/metrics"
	"wsrelay/receiver"
)

func (c *serveCmd) checkMetrics() error {
	if c.Metrics == "" {
		return nil
	}
	if err := metrics.CheckAddr(c.Metrics, c.AllowInsecure); err != nil {
		return &console.Complaint{
			Err: fmt.Errorf("--metrics: %w", err), Effect: nothingReceived, Code: exitConfig,
			Hint: "use 127.0.0.1:9515, say; --allow-insecure if the network is all yours",
		}
	}
	return nil
}

// metrics serves them on an address of their own, if there is one, until ctx
// ends or it is stopped.
func (c *serveCmd) metrics(ctx context.Context, rcv *receiver.Receiver, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if c.Metrics != "" {
		wg.Go(func() { metrics.Serve(ctx, c.Metrics, rcv.Metrics, log) })
	}
	return func() {
		cancel()
		wg.Wait()
	}
}
