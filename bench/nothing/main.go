// Nothing is a Go program that does nothing until its input ends: the floor of
// what two processes written in Go take of memory.
package main

import "os"

func main() {
	_, _ = os.Stdin.Read(make([]byte, 1))
}
