package buffer

import "os"

// long tells whether to try each case instead of some: make torture-queue.
func long() bool { return os.Getenv("TORTURE") != "" }
