// Command wsreceive takes lines from wsrelay over WebSocket and stores them.
package main

import (
	"os"

	"wsrelay/internal/cli/wsreceive"
)

func main() { os.Exit(wsreceive.Main()) }
