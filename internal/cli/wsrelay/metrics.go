package wsrelay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	"wsrelay/buffer"
	"wsrelay/intake"
	"wsrelay/internal/cli"
	"wsrelay/internal/metrics"
	"wsrelay/internal/status"
	"wsrelay/relay"
)

// metricsOptions are the options that publish metrics of a relay; the state in
// wsrelay status does in any case.
type metricsOptions struct {
	Metrics     string `placeholder:"ADDR" help:"Serve metrics for Prometheus at http://ADDR/metrics, such as 127.0.0.1:9514. There is no authentication, so an address beyond loopback needs --allow-insecure."`
	MetricsFile string `placeholder:"FILE" help:"Write the metrics to FILE every 15 s for the textfile collector of the node exporter, if wsrelay must not listen."`
}

// check is what the options must be.
func (r *metricsOptions) check(insecure bool) error {
	if r.Metrics == "" {
		return nil
	}
	if err := metrics.CheckAddr(r.Metrics, insecure); err != nil {
		return configError(fmt.Errorf("--metrics: %w", err), "use 127.0.0.1:9514, say, or --metrics-file; --allow-insecure if you trust the network", exitConfig)
	}
	return nil
}

// report serves the state and the metrics of the relay until it is stopped.
func (c *config) report(in *intake.Intake, q *buffer.Queue, r *relay.Relay, wrong error,
	log *slog.Logger,
) (stop func()) {
	dir, err := filepath.Abs(c.QueueDir)
	if err != nil {
		dir = c.QueueDir // where we are, is gone
	}
	o := status.Options{
		Instance: c.Instance, QueueDir: dir, Version: cli.Version(),
		DrainRate: int64(c.DrainRate), Relay: r.Status,
		Keeper: func() status.Keeper { h := in.History(); return status.Keeper{Workers: h.Workers, Last: h.Last} },
	}
	if configErr := (*cli.Error)(nil); errors.As(wrong, &configErr) {
		o.Problem = &status.Problem{
			What: configErr.Error(), Effect: "no line is lost: they wait in the queue",
			Hint: configErr.Hint,
		}
	}
	reporter := status.NewReporter(q, o)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { reporter.Run(ctx) })
	wg.Go(func() { status.Serve(ctx, q.Dir, reporter.Snapshot, log) })
	write := func(t *metrics.Text) {
		s := reporter.Snapshot()
		s.Metrics(t, ctx.Err() == nil)
	}
	if c.Metrics != "" {
		wg.Go(func() { metrics.Serve(ctx, c.Metrics, write, log) })
	}
	if c.MetricsFile != "" {
		wg.Go(func() { metrics.Keep(ctx, c.MetricsFile, write, log) })
	}
	return func() {
		cancel()
		wg.Wait()
		_ = reporter.Close() // it was only read
	}
}
