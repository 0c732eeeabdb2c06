package scripts

import (
	"os"
	"os/exec"
	"testing"
)

func TestMutate_FindsEachSafeguard(t *testing.T) {
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), "./mutate")
	cmd.Env = append(os.Environ(), "DRY=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: a change has taken a safeguard's text away\n%s", err, out)
	}
}
