package torture

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"wsrelay/test/harness"
)

// disk is a file system of its own in a file.
type disk struct {
	t     testing.TB
	image string
	Dir   string // where it is mounted
}

// newDisk makes and mounts a file system, which goes away with the test. It
// skips the test where the machine does not allow that.
func newDisk(t testing.TB, size int64, mkfs ...string) *disk {
	t.Helper()
	harness.NeedMounts(t)
	harness.Need(t, mkfs[0], "mount", "umount")
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "image"), Dir: t.TempDir()}
	harness.Must(t, os.WriteFile(d.image, nil, 0o600))
	harness.Must(t, os.Truncate(d.image, size))
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], d.image)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", mkfs[0], err, out)
	}
	if out, err := d.try("mount", "-o", "loop", d.image, d.Dir); err != nil {
		harness.Lack(t, fmt.Sprintf("no loop device: %v: %s", err, out))
	}
	t.Cleanup(func() { _, _ = d.try("umount", d.Dir) }) // it may be unmounted
	return d
}

func (d *disk) try(command ...string) ([]byte, error) {
	return exec.Command(command[0], command[1:]...).CombinedOutput()
}

func (d *disk) run(command ...string) {
	d.t.Helper()
	if out, err := d.try(command...); err != nil {
		d.t.Fatalf("%v: %v\n%s", command, err, out)
	}
}

// shutdown is the end of the file system as it stands on the disk: nothing that
// is in memory gets there any more, not even the journal's. EXT4_IOC_SHUTDOWN
// and XFS_IOC_GOINGDOWN are the same number.
func (d *disk) shutdown() {
	d.t.Helper()
	const goingDown, withoutLogFlush = 0x8004587d, 2
	dir, err := os.Open(d.Dir)
	harness.Must(d.t, err)
	defer dir.Close()
	harness.Must(d.t, unix.IoctlSetPointerInt(int(dir.Fd()), goingDown, withoutLogFlush))
}

// remount is what the next start of the machine does.
func (d *disk) remount() {
	d.t.Helper()
	d.run("umount", d.Dir)
	d.run("mount", "-o", "loop", d.image, d.Dir)
}
