package wsreceive

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"

	"wsrelay/receiver/store/stdout"

	"wsrelay/receiver"
)

// faulty is a store that panics.
type faulty struct{ receiver.Store }

func (faulty) Commit(context.Context, []receiver.Batch) ([]receiver.Result, error) {
	panic("a fault in the store")
}

// panicsMain is the program "panics page|store": a wsreceive with a fault, and
// a panic in a test.
func panicsMain() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	page := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault in the page") })
	rcv := receiver.New(faulty{stdout.New(io.Discard)}, receiver.Options{})
	go func() {
		if os.Args[1] == "page" {
			_, err = http.Get("http://" + ln.Addr().String() + "/") //nolint:bodyclose // there is none
		} else {
			err = send("ws://"+ln.Addr().String()+"/relay", 1, []string{"x"})
		}
		fmt.Println("it was hidden:", err)
		os.Exit(1)
	}()
	fmt.Println(serve(context.Background(), ln, rcv, page, http.NotFoundHandler(), slog.New(slog.DiscardHandler)))
	os.Exit(1)
}
