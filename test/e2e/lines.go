package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Kind is a kind of log line.
type Kind int

// The kinds of lines that a Feeder sends.
const (
	Access     Kind = iota // an nginx request as JSON, a datagram
	Supervisor             // what a child of Supervisor printed, a line of a file
	Syslog                 // a message of a local daemon, a datagram
	kinds
)

// programs are what the documents of each kind have as their program.
var programs = [kinds]string{"nginx", "worker", "billing"}

func (k Kind) String() string {
	return [kinds]string{"nginx access (JSON)", "Supervisor output", "local syslog"}[k]
}

// Message is the n-th line of its kind, without the frame that brings it to
// syslog-ng. It is the same at each call and carries n in seven digits.
func (k Kind) Message(n int) string {
	switch k {
	case Access:
		return fmt.Sprintf(`{"ip":"203.0.113.%d","host":"shop.example","path":"/orders/%07d?q=caf\u00e9+%%22au+lait%%22","status":%d,`+
			`"referrer":"https://shop.example/cart","user_agent":"Mozilla/5.0 (\"demo\"; rv:%d)","length":%d,"generation_time_milli":%d,"date":"%s"}`,
			n%254+1, n, pick(n, 200, 200, 200, 304, 404, 500), 100+n%30, 512+n*37%9000, 2+n*13%400,
			at(n).Format(time.RFC3339))
	case Supervisor:
		return fmt.Sprintf("%s %s [child %d] picture %07d %s in %d ms — done",
			at(n).Format("2006-01-02 15:04:05.000"), pick(n, "INFO", "INFO", "INFO", "WARN"), n%4, n,
			pick(n, "resized", "cropped", "signed"), 5+n*7%300)
	default:
		return fmt.Sprintf("invoice %07d of customer 'C-%04d' is %s, total %d.%02d €",
			n, n*31%9999, pick(n, "paid", "sent", "overdue"), 10+n*17%900, n*29%100)
	}
}

// frame is the n-th line as its writer puts it on the socket or in the file.
func (k Kind) frame(n int) string {
	stamp := at(n).Format(time.Stamp)
	switch k {
	case Access: // local7.info
		return fmt.Sprintf("<190>%s %s: %s", stamp, programs[k], k.Message(n))
	case Supervisor:
		return k.Message(n) + "\n"
	default: // daemon.notice
		return fmt.Sprintf("<29>%s %s[%d]: %s", stamp, programs[k], 400+n%8, k.Message(n))
	}
}

// at is the time that the n-th line tells: lines are the same in every run.
func at(n int) time.Time {
	return time.Date(2026, time.March, 14, 9, 0, 0, 0, time.UTC).Add(time.Duration(n) * 3 * time.Millisecond)
}

func pick[T any](n int, from ...T) T { return from[n%len(from)] }

var number = regexp.MustCompile(`\b[0-9]{7}\b`)

// numberOf finds the number that Message put into a line.
func numberOf(message string) (n int, ok bool) {
	n, err := strconv.Atoi(number.FindString(message))
	return n, err == nil
}
