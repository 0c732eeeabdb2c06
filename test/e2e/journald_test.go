package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// journald runs $1 with its standard error connected to a systemd-journald of its
// own, as systemd does for a service, and prints the journal.
const journald = `
mount -t tmpfs none /run
mkdir -p /run/systemd/journal /run/log/journal
echo 0123456789abcdef0123456789abcdef >/run/machine-id
mount --bind /run/machine-id /etc/machine-id
/lib/systemd/systemd-journald 2>/dev/null &
until [ -S /run/systemd/journal/stdout ]; do sleep 0.1; done
systemd-cat sh -c 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$1" --to file:/nonexistent/lines --listen 127.0.0.1:0' - "$1" || [ $? = 1 ]
until journalctl --sync 2>/dev/null && journalctl --directory /run/log/journal -o json -t wsreceive >/run/out && [ -s /run/out ]; do sleep 0.1; done
cat /run/out
`

func TestJournald_GetsEachMessageWithItsPriority(t *testing.T) {
	need(t, "unshare", "/lib/systemd/systemd-journald", "systemd-cat", "journalctl")
	if os.Getuid() != 0 {
		t.Skip("only root may mount")
	}
	if _, err := os.Stat("/etc/machine-id"); err != nil {
		t.Skip("the machine has no id")
	}
	cmd := exec.CommandContext(t.Context(), "timeout", "60", "unshare", "--mount", "--pid", "--fork", "--kill-child",
		"--mount-proc", "sh", "-ec", journald, "-", built(t)+"/wsreceive")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var entry struct{ PRIORITY, MESSAGE string }
	must(t, json.Unmarshal(out, &entry)) // one object
	if entry.PRIORITY != "3" || strings.Count(entry.MESSAGE, "\n") != 2 ||
		!strings.Contains(entry.MESSAGE, "cannot use the store") {
		t.Errorf("priority %s, message %q; want one entry of priority 3, with its effect and its hint", entry.PRIORITY,
			entry.MESSAGE)
	}
}
