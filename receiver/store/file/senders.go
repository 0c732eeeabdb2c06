package file

import (
	"context"

	"wsrelay/receiver"
)

var _ receiver.SenderKeeper = (*Store)(nil)

func sendersPath(path string) string { return path + ".senders" }

// Senders implements receiver.SenderKeeper.
func (s *Store) Senders(context.Context) ([]receiver.Sender, error) {
	all, err := Senders(s.path)
	for i := range all {
		all[i].Online = false // only one process has the store open
	}
	return all, err
}

// KeepSenders implements receiver.SenderKeeper.
func (s *Store) KeepSenders(_ context.Context, all, _ []receiver.Sender, _ []string) error {
	return receiver.WriteSenders(sendersPath(s.path), all)
}

// Senders reads what the store at path has kept, also while another process has it
// open.
func Senders(path string) ([]receiver.Sender, error) { return receiver.ReadSenders(sendersPath(path)) }
