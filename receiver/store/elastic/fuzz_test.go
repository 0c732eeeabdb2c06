package elastic

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzAnswer lets an engine, or whatever stands in its place, answer a bulk of
// three documents with any text. A document counts as stored or as there already
// only if the answer names it in its place.
func FuzzAnswer(f *testing.F) {
	ids := []string{"a:1", "a:2", "a:3"}
	item := func(id, rest string) string { return `{"create":{"_id":"` + id + `",` + rest + `}}` }
	for _, rest := range []string{`"status":201`, `"status":409,"error":{"type":"version_conflict_engine_exception","index":"i"}`, `"status":500,"error":{"reason":"x","caused_by":{"reason":"y"}}`} {
		f.Add(0, `{"items":[`+item(ids[0], rest)+","+item(ids[1], rest)+","+item(ids[2], rest)+`]}`)
		f.Add(0, `{"items":[`+item(ids[0], rest)+","+item(ids[1], rest))
		f.Add(0, `{"items":[`+item(ids[1], rest)+","+item(ids[0], rest)+","+item(ids[2], rest)+`]}`)
	}
	all := item(ids[0], `"status":201`) + "," + item(ids[1], `"status":201`)
	for _, more := range []string{"", "," + item(ids[2], `"status":201`) + "," + item("a:4", `"status":201`)} {
		f.Add(0, `{"items":[`+all+more+`]}`)
	}
	f.Add(0, `{"items":[`+all+","+item(ids[2], `"status":201`)+`]} and more`)
	f.Add(200, `{"error":{"type":"illegal_argument_exception","reason":"no"}}`)
	f.Add(302, "<html>Bad Gateway</html>")
	var status int
	var body string
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	f.Cleanup(engine.Close)
	c, err := Dial(engine.URL, Access{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(c.Close)
	f.Fuzz(func(t *testing.T, code int, text string) {
		status, body = 200+code%400, text
		if code < 0 {
			status = 200
		}
		var ops []*op
		for _, id := range ids {
			ops = append(ops, &op{id: id, body: []byte("{}\n{}\n")})
		}
		c.bulk(t.Context(), ops)
		var answer struct {
			Items []struct {
				Create struct {
					ID string `json:"_id"`
				} `json:"create"`
			} `json:"items"`
		}
		invalid := json.Unmarshal([]byte(text), &answer)
		for k, o := range ops {
			if o.err == nil && o.outcome != stored && o.outcome != exists {
				t.Errorf("%s: outcome %d without an error", o.id, o.outcome)
			}
			if o.outcome != stored && o.outcome != exists {
				_, _ = o.err.Error(), o.err.Hint()
				continue
			}
			ambiguous := strings.Count(strings.ToLower(text), "items") > 1 ||
				strings.Count(strings.ToLower(text), "_id") > len(ids) || strings.Contains(text, `\u`)
			if status/100 != 2 || !ambiguous && (invalid != nil || len(answer.Items) != len(ops) ||
				answer.Items[k].Create.ID != o.id) {
				t.Errorf("%s counts as stored after %d %q", o.id, status, text)
			}
		}
	})
}
