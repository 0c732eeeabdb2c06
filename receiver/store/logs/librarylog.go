package logs

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"strings"
)

// libraryLog brings the library's log into ours. The library writes one JSON object
// a call and calls nothing of ours meanwhile; after a line of level panic or fatal
// it ends the process.
type libraryLog struct{ store *Store }

// exitStatus is one that a service manager takes for a failure, and starts again.
const exitStatus = 1

var exit = os.Exit // but for tests

func (l *libraryLog) Write(p []byte) (int, error) {
	var line struct{ Level, Msg string }
	if json.Unmarshal(p, &line) != nil { // it quotes as Go does, which is not always JSON
		line.Level, line.Msg = quotedLevel(p), string(p)
	}
	log := l.store.log
	switch {
	case line.Level == "panic", line.Level == "fatal":
		l.store.libraryFails(line.Msg)
	case strings.Contains(line.Msg, "skipping log entry"): // the message shows it: a payload
		l.store.refused.Add(1)
		log.Error("the log database dropped a row", "effect", "the line is in the journal until the next barrier, which fails; then it is added again",
			"hint", "do not change the folder database while wsreceive runs")
	case strings.Contains(line.Msg, "log entry"): // likewise; Add has noticed
	case line.Level == "error":
		log.Warn("the log database reports an error",
			"effect", "none for lines: what is acknowledged is in the journal or on disk",
			"hint", "look for what the system reports about the disk; run wsreceive with --log-level debug to see the details")
		log.Debug("log database", "detail", line.Msg)
	default: // how it works, and what is wrong with a query, which its user learns
		log.LogAttrs(context.Background(), slog.LevelDebug, "log database", slog.String("detail", line.Msg))
	}
	return len(p), nil
}

func quotedLevel(p []byte) string {
	for _, level := range []string{"panic", "fatal", "error", "warn"} {
		if strings.Contains(string(p[:min(len(p), 40)]), `"level":"`+level+`"`) {
			return level
		}
	}
	return "info"
}

// shortages are errors of the system that do not mean that a file is damaged, and
// what to do about each.
var shortages = []struct{ err, hint string }{
	{"no space left on device", "free space on the disk of the store"},
	{"disk quota exceeded", "free space on the disk of the store, or raise the quota"},
	{"file too large", "raise the limit for files: LimitFSIZE= of the unit"},
	{"too many open files", "raise the limit for open files: LimitNOFILE= of the unit"},
	{"cannot allocate memory", "allow more memory: MemoryMax= of the unit, vm.max_map_count"},
	{"read-only file system", "make the file system of the store writable; check its disk"},
	{"permission denied", "give the store's files to the user that wsreceive runs as; see whether AppArmor or SELinux forbids it"},
	{"operation not permitted", "see what forbids it: the owner of the store's files, SystemCallFilter= of the unit, AppArmor or SELinux"},
}

var partitionPath = regexp.MustCompile(`partitions/(\d{8}(?:/indexdb|/datadb/[0-9A-F]{16})?)`)

// libraryFails is called when the library is about to end the process. It leaves a
// note of what is damaged for the next Open.
func (s *Store) libraryFails(msg string) {
	defer exit(exitStatus)
	s.log.Debug("log database", "detail", msg)
	for _, t := range shortages {
		if strings.Contains(msg, t.err) {
			failed, _, _ := strings.Cut(strings.TrimPrefix(msg, "FATAL: "), t.err)
			s.log.Error("the log database could not write or read", "err", failed[:min(len(failed), 300)]+t.err,
				"effect", "wsreceive exits and must be started again; no acknowledged line is lost: what was not on disk is in the journal",
				"hint", t.hint)
			return
		}
	}
	m := partitionPath.FindAllStringSubmatch(msg, -1)
	if m == nil && strings.Contains(msg, "in indexdb") {
		m = [][]string{{"", someIndex}}
	}
	if m == nil {
		err := s.damage.blame()
		s.log.Error("the log database stopped", "note_err", err,
			"effect", "wsreceive exits and must be started again; no acknowledged line is lost; the next start reads each day and moves what is damaged into the folder damaged",
			"hint", "run wsreceive with --log-level debug to see why, and report it")
		return
	}
	what := m[0][1]
	for _, other := range m[1:] {
		if other[1] != what { // a merge of several parts: any of them may be the damaged one
			what = what[:len("20060102")]
		}
	}
	err := s.damage.note(what)
	s.log.Error("the log database found damaged data", "what", what, "note_err", err,
		"effect", "wsreceive exits; at its next start it moves the damaged data into the folder damaged, and works without it",
		"hint", "check the disk; restore the day from a backup if you have one")
}
