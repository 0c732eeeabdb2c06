package status

import (
	"slices"

	"wsrelay/internal/metrics"
	"wsrelay/relay"
)

// whys are the reasons that every relay has a counter for, so that the first
// loss is an increase and not a new series.
var whys = []string{"overflow", "expired", "purged", "damaged", "unsynced", "oversize"}

// Metrics writes s for Prometheus. Lines are counted by the queue's numbers,
// which a restart does not set back; a restored queue, whose numbers do go back,
// has another sid. The other counters begin with the worker, at
// wsrelay_start_time_seconds. Up is false in the last snapshot of a relay that exits.
func (s *Snapshot) Metrics(t *metrics.Text, up bool) {
	at := []string{"relay", s.Instance}
	with := func(labels ...string) []string { return append(slices.Clip(at), labels...) }

	t.Gauge("wsrelay_lag_seconds", "How long ago the oldest line came that has no receipt; 0: none waits.",
		s.LagSeconds, at...)
	t.Flag("wsrelay_up", "0: wsrelay has ended.", up, at...)
	t.Flag("wsrelay_healthy", "1: wsrelay status finds nothing wrong.", s.Healthy, at...)
	t.Flag("wsrelay_connected", "1: a session with the receiver is open. Without lines there need be none.",
		s.State == relay.StateConnected, at...)
	if s.Keeper {
		t.Counter("wsrelay_worker_restarts_total", "Workers that the keeper has started after the first.",
			float64(s.WorkerRestarts), at...)
	}
	t.Gauge("wsrelay_failed_attempts", "Attempts to deliver that have failed since the last receipt.",
		float64(s.FailedAttempts), at...)

	t.Counter("wsrelay_lines_in_total", "Lines on disk since the queue began.", float64(s.LinesIn),
		with("sid", s.SID)...)
	t.Counter("wsrelay_lines_done_total", "Of those, lines with a receipt; lost ones, of which the receiver knows, included.", float64(s.LinesDone), with("sid", s.SID)...)
	t.Gauge("wsrelay_backlog_lines", "Lines without a receipt.", float64(s.BacklogLines), at...)
	t.Gauge("wsrelay_backlog_bytes", "What they take on disk, about.", float64(s.BacklogBytes), at...)
	t.Gauge("wsrelay_disk_bytes", "What the queue's files take on disk.", float64(s.DiskBytes), at...)
	t.Gauge("wsrelay_disk_limit_bytes", "What they may take: --queue-limit, or half of what they have and what is free, if that is less.", float64(s.DiskLimitBytes), at...)
	for _, l := range s.everyLoss() {
		t.Counter("wsrelay_lost_lines_total", "Lines that are lost, by reason, of which the receiver knows: a gap with their numbers was delivered instead.", float64(l.Told), with("why", l.Why)...)
	}
	for _, l := range s.everyLoss() {
		t.Gauge("wsrelay_lost_lines_untold", "Lines that are lost, and the receiver does not know it yet.",
			float64(l.Lines-l.Told), with("why", l.Why)...)
	}
	t.Counter("wsrelay_dead_letter_lines_total", "Lines that the store refused, and has in its dead-letter index.",
		float64(s.DeadLetterLines), at...)

	t.Counter("wsrelay_sent_lines_total", "Lines put on the wire.", float64(s.SentLines), at...)
	t.Counter("wsrelay_sent_again_lines_total", "Of those, lines that had been there before.",
		float64(s.SentAgainLines), at...)
	t.Counter("wsrelay_sent_bytes_total", "Bytes of messages with lines, without WebSocket and TLS.",
		float64(s.SentBytes), at...)
	t.Counter("wsrelay_sessions_total", "Sessions that came to the receiver's welcome.", float64(s.Sessions), at...)
	t.Counter("wsrelay_failures_total", "Attempts and sessions that ended with an error.", float64(s.Failures), at...)
	t.Time("wsrelay_last_receipt_timestamp_seconds", "When the newest receipt of this run came.", s.ReceiptAt, at...)
	t.Time("wsrelay_start_time_seconds", "When this worker had its queue.", s.StartedAt, at...)
	t.Gauge("wsrelay_build_info", "1.", 1, with("version", s.Version)...)
}

// everyLoss is s.Lost with the reasons for which nothing was lost.
func (s *Snapshot) everyLoss() (all []Lost) {
	for _, why := range whys {
		if !slices.ContainsFunc(s.Lost, func(l Lost) bool { return l.Why == why }) {
			all = append(all, Lost{Why: why})
		}
	}
	return append(all, s.Lost...)
}
