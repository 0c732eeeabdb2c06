package logs

import (
	"context"
	"path/filepath"

	"wsrelay/receiver"
)

const sendersName = "senders"

// Senders implements receiver.SenderKeeper. What was not kept any more before a
// crash is made good from the journal's table of streams.
func (s *Store) Senders(context.Context) ([]receiver.Sender, error) {
	all, err := receiver.ReadSenders(s.under(sendersName))
	lost := len(all) == 0 // else a stream that is not in the table was forgotten
	at := map[string]int{}
	for i := range all {
		all[i].Online = false // only one process has the store open
		at[all[i].SID] = i
	}
	for _, st := range s.Streams() {
		i, ok := at[st.SID]
		switch {
		case st.Host == "" || len(st.Lines) == 0:
		case ok && st.Seen.After(all[i].Line):
			all[i].Line = st.Seen
		case lost:
			all = append(all, receiver.Sender{
				SID: st.SID, Host: st.Host, Name: ownerName(st.Owner), First: st.Seen,
				Seen: st.Seen, Line: st.Seen,
			})
		}
	}
	return all, err
}

func ownerName(owner string) string {
	if owner == receiver.Anybody {
		return ""
	}
	return owner
}

// KeepSenders implements receiver.SenderKeeper.
func (s *Store) KeepSenders(_ context.Context, all, _ []receiver.Sender, _ []string) error {
	return receiver.WriteSenders(s.under(sendersName), all)
}

// Senders reads what the store at path has kept, also while another process has it
// open.
func Senders(path string) ([]receiver.Sender, error) {
	return receiver.ReadSenders(filepath.Join(path, sendersName))
}
