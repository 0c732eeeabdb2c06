package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// stackLogs is the log database of a wsreceive.
type stackLogs struct{}

func (l *stackLogs) start(c *stack) error { return c.r.Start(c.Context()) }

func (l *stackLogs) faults() []fault { return nil }

func (l *stackLogs) documents(c *stack) (lines [][]byte) {
	c.Helper()
	for line, err := range c.r.Documents(c.Context()) {
		must(c.T, err)
		lines = append(lines, line)
	}
	return lines
}

func (l *stackLogs) count(c *stack, id string) int {
	res, err := http.PostForm("http://"+c.r.Addr+"/select/logsql/query", url.Values{"query": {fmt.Sprintf("program:=nginx fields.request_id:=%q | limit 1", id)}})
	if err != nil {
		return 0 // it was killed
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return 0
	}
	return strings.Count(string(answer), "\n")
}

// story asks as the tutorial does.
func (l *stackLogs) story(c *stack, id string) (lines []string) {
	c.Helper()
	must(c.T, c.r.search(c.Context(), func(line []byte) error {
		var d struct {
			Time    string `json:"_time"`
			Program string `json:"program"`
			Level   string `json:"level"`
			Message string `json:"_msg"`
		}
		if err := json.Unmarshal(line, &d); err != nil {
			return err
		}
		lines = append(lines, storyLine(d.Time, d.Program, d.Level, d.Message))
		return nil
	}, fmt.Sprintf("fields.request_id:=%q | sort by (_time) | fields _time, program, level, _msg", id)))
	return lines
}

func storyLine(at, program, level, message string) string {
	return fmt.Sprintf("%-30s %-11s %-7s %.160s", at, program, level, strings.ReplaceAll(message, "\n", "⏎"))
}
