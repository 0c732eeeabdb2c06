package setup

import (
	"encoding/json"
	"strconv"
	"strings"
)

// The saved objects are of the generation that Kibana 7.10 and OpenSearch
// Dashboards share, which later ones migrate when they import them: index
// patterns, visualizations that are aggregations, saved searches, dashboards.

const (
	linePattern = "wsrelay"      // ids of the index patterns
	deadPattern = "wsrelay-dead" //
)

// chart is a visualization: the count of lines, or another metric, by buckets.
type chart struct {
	id, title, kind string // kind: histogram, line, table, pie, metric
	pattern         string
	query           string // KQL
	metrics         []agg  // none: the count
	buckets         []agg
}

// agg is an aggregation as the visualize application names it.
type agg struct {
	kind, field, schema, label string

	size     int       // of terms
	percents []float64 // of percentiles
}

func overTime(label string) agg {
	return agg{kind: "date_histogram", field: "@timestamp", schema: "segment", label: label}
}

func top(size int, field, schema, label string) agg {
	return agg{kind: "terms", field: field, schema: schema, label: label, size: size}
}

const requests = "http.response.status_code: *"

var charts = []chart{
	{
		id: "lines-over-time", title: "Lines by level", kind: "histogram", pattern: linePattern,
		buckets: []agg{overTime("time"), top(8, "log.level", "group", "level")},
	},
	{id: "lines-by-host", title: "Hosts", kind: "table", pattern: linePattern, buckets: []agg{top(50, "host.name", "bucket", "host")}},
	{id: "lines-by-program", title: "Programs", kind: "table", pattern: linePattern, buckets: []agg{top(50, "process.name", "bucket", "program")}},
	{id: "lines-by-facility", title: "Facilities", kind: "pie", pattern: linePattern, buckets: []agg{top(10, "log.syslog.facility.name", "segment", "facility")}},
	{
		id: "gaps", title: "Lines that will not come", kind: "table", pattern: linePattern, query: "wsrelay.gap.n > 0",
		metrics: []agg{{kind: "sum", field: "wsrelay.gap.n", schema: "metric", label: "lines"}},
		buckets: []agg{top(50, "wsrelay.host", "bucket", "host"), top(10, "wsrelay.gap.why", "bucket", "why")},
	},
	{
		id: "requests-over-time", title: "Requests by status", kind: "histogram", pattern: linePattern, query: requests,
		buckets: []agg{overTime("time"), top(12, "http.response.status_code", "group", "status")},
	},
	{
		id: "requests-duration", title: "Duration in nanoseconds: median, 95 %, 99 %", kind: "line", pattern: linePattern, query: requests,
		metrics: []agg{{kind: "percentiles", field: "event.duration", schema: "metric", label: "duration", percents: []float64{50, 95, 99}}},
		buckets: []agg{overTime("time")},
	},
	{
		id: "requests-by-status", title: "Status", kind: "pie", pattern: linePattern, query: requests,
		buckets: []agg{top(20, "http.response.status_code", "segment", "status")},
	},
	{
		id: "requests-by-path", title: "Paths", kind: "table", pattern: linePattern, query: requests,
		metrics: []agg{
			{kind: "count", schema: "metric", label: "requests"},
			{kind: "avg", field: "event.duration", schema: "metric", label: "mean duration (ns)"},
			{kind: "sum", field: "http.response.body.bytes", schema: "metric", label: "bytes"},
		},
		buckets: []agg{top(50, "url.path", "bucket", "path")},
	},
	{id: "requests-by-source", title: "Clients", kind: "table", pattern: linePattern, query: requests, buckets: []agg{top(50, "source.ip", "bucket", "address")}},
	{id: "requests-by-agent", title: "User agents", kind: "table", pattern: linePattern, query: requests, buckets: []agg{top(50, "user_agent.original", "bucket", "user agent")}},
	{
		id: "dead-over-time", title: "Dead letters by reason", kind: "histogram", pattern: deadPattern,
		buckets: []agg{overTime("time"), top(10, "error.type", "group", "reason")},
	},
	{
		id: "dead-by-index", title: "Dead letters by host and index", kind: "table", pattern: deadPattern,
		buckets: []agg{top(50, "wsrelay.host", "bucket", "host"), top(50, "error.index", "bucket", "index"), top(20, "error.type", "bucket", "reason")},
	},
}

// list is a saved search.
type list struct {
	id, title, pattern, query string
	columns                   []string
}

var lists = []list{
	{"lines", "Lines", linePattern, "", []string{"host.name", "process.name", "log.level", "message"}},
	{"requests", "Requests", linePattern, requests, []string{"source.ip", "http.response.status_code", "url.original", "event.duration"}},
	{"dead-letters", "Dead letters", deadPattern, "", []string{"wsrelay.host", "error.type", "error.message", "message"}},
}

// board is a dashboard: panels in rows of 48 columns.
type board struct {
	id, title, description string
	rows                   [][]string // ids
}

var boards = []board{
	{"logs", "wsrelay: lines", "What comes from where.", [][]string{{"lines-over-time"}, {"lines-by-host", "lines-by-program", "lines-by-facility", "gaps"}, {"lines"}}},
	{"nginx", "wsrelay: nginx", "Requests.", [][]string{{"requests-over-time", "requests-duration"}, {"requests-by-path", "requests-by-status"}, {"requests-by-source", "requests-by-agent"}, {"requests"}}},
	{"dead", "wsrelay: dead letters", "Lines that the engine refused, and why. wsreceive replay brings them back.", [][]string{{"dead-over-time", "dead-by-index"}, {"dead-letters"}}},
}

// saved is one line of the file.
type saved struct {
	Type       string            `json:"type"`
	ID         string            `json:"id"`
	Attributes map[string]any    `json:"attributes"`
	References []reference       `json:"references"`
	Migration  map[string]string `json:"migrationVersion"`
}

type reference struct {
	Name string `json:"name"`
	Type string `json:"type"`
	ID   string `json:"id"`
}

// Dashboards gives the saved objects as NDJSON, for the import of Kibana from
// 7.10 on and of OpenSearch Dashboards. They show what is in the data stream, too,
// if it is not "".
func Dashboards(stream string) []byte {
	lines := "wsrelay-*,-wsrelay-dead-*"
	if stream != "" {
		lines += "," + stream
	}
	all := []saved{pattern(linePattern, lines), pattern(deadPattern, "wsrelay-dead-*")}
	kinds := make(map[string]string)
	for _, c := range charts {
		all = append(all, c.saved())
		kinds[c.id] = "visualization"
	}
	for _, l := range lists {
		all = append(all, l.saved())
		kinds[l.id] = "search"
	}
	for _, b := range boards {
		all = append(all, b.saved(kinds))
	}
	var out []byte
	for _, s := range all {
		line, _ := json.Marshal(s)
		out = append(append(out, line...), '\n')
	}
	return out
}

func pattern(id, title string) saved {
	return saved{
		"index-pattern", id,
		map[string]any{"title": title, "timeFieldName": "@timestamp"},
		[]reference{},
		map[string]string{"index-pattern": "7.6.0"},
	}
}

const sourceRef = "kibanaSavedObjectMeta.searchSourceJSON.index"

// source says which documents an object is about.
func source(query string) map[string]any {
	return map[string]any{"searchSourceJSON": text(map[string]any{
		"query": map[string]string{"query": query, "language": "kuery"}, "filter": []any{}, "indexRefName": sourceRef,
	})}
}

func (c *chart) saved() saved {
	metrics := c.metrics
	if metrics == nil {
		metrics = []agg{{kind: "count", schema: "metric", label: "lines"}}
	}
	var aggs []any
	for i, a := range append(append([]agg{}, metrics...), c.buckets...) {
		aggs = append(aggs, map[string]any{"id": strconv.Itoa(i + 1), "enabled": true, "type": a.kind, "schema": a.schema, "params": a.params()})
	}
	state := map[string]any{"title": c.title, "type": c.kind, "aggs": aggs, "params": c.params(len(metrics))}
	return saved{
		"visualization", c.id,
		map[string]any{
			"title": "wsrelay: " + c.title, "description": "", "version": 1, "uiStateJSON": "{}",
			"visState": text(state), "kibanaSavedObjectMeta": source(c.query),
		},
		[]reference{{sourceRef, "index-pattern", c.pattern}},
		map[string]string{"visualization": "7.10.0"},
	}
}

func (a *agg) params() map[string]any {
	p := map[string]any{"customLabel": a.label}
	if a.field != "" {
		p["field"] = a.field
	}
	switch a.kind {
	case "date_histogram":
		p["interval"], p["min_doc_count"], p["useNormalizedEsInterval"], p["extended_bounds"] = "auto", 1, true, map[string]any{}
	case "terms":
		p["size"], p["order"], p["orderBy"] = a.size, "desc", "1"
		p["otherBucket"], p["otherBucketLabel"], p["missingBucket"] = false, "other", false
	case "percentiles":
		p["percents"] = a.percents
	}
	return p
}

// params are what the kind of chart wants to be told.
func (c *chart) params(metrics int) map[string]any {
	switch c.kind {
	case "table":
		return map[string]any{"perPage": 10, "showPartialRows": false, "showMetricsAtAllLevels": false, "showTotal": false, "totalFunc": "sum", "percentageCol": ""}
	case "pie":
		return map[string]any{
			"type": "pie", "addTooltip": true, "addLegend": true, "legendPosition": "right", "isDonut": true,
			"labels": map[string]any{"show": true, "values": true, "last_level": true, "truncate": 100},
		}
	}
	mode := map[string]string{"histogram": "stacked", "line": "normal"}[c.kind]
	var series []any
	for i := range metrics {
		series = append(series, map[string]any{
			"show": true, "type": c.kind, "mode": mode, "valueAxis": "ValueAxis-1", "data": map[string]any{"id": strconv.Itoa(i + 1), "label": c.title},
			"drawLinesBetweenPoints": true, "lineWidth": 2, "showCircles": true,
		})
	}
	axis := func(id, kind, position string) map[string]any {
		return map[string]any{
			"id": id, "type": kind, "position": position, "show": true, "style": map[string]any{}, "title": map[string]any{},
			"scale": map[string]any{"type": "linear"}, "labels": map[string]any{"show": true, "filter": true, "truncate": 100},
		}
	}
	values := axis("ValueAxis-1", "value", "left")
	values["name"] = "LeftAxis-1"
	return map[string]any{
		"type": c.kind, "grid": map[string]any{"categoryLines": false}, "addTooltip": true, "addLegend": true, "legendPosition": "right", "times": []any{}, "addTimeMarker": false,
		"categoryAxes": []any{axis("CategoryAxis-1", "category", "bottom")}, "valueAxes": []any{values}, "seriesParams": series,
		"labels": map[string]any{"show": false}, "thresholdLine": map[string]any{"show": false, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
	}
}

func (l *list) saved() saved {
	return saved{
		"search", l.id,
		map[string]any{
			"title": "wsrelay: " + l.title, "description": "", "hits": 0, "version": 1,
			"columns": l.columns, "sort": [][]string{{"@timestamp", "desc"}}, "kibanaSavedObjectMeta": source(l.query),
		},
		[]reference{{sourceRef, "index-pattern", l.pattern}},
		map[string]string{"search": "7.9.3"},
	}
}

func (b *board) saved(kinds map[string]string) saved {
	const height = 15
	var panels []any
	var references []reference
	for y, row := range b.rows {
		width := 48 / len(row)
		for x, id := range row {
			n := strconv.Itoa(len(panels) + 1)
			panels = append(panels, map[string]any{
				"version": "7.10.0", "panelIndex": n, "embeddableConfig": map[string]any{}, "panelRefName": "panel_" + n,
				"gridData": map[string]any{"x": x * width, "y": y * height, "w": width, "h": height, "i": n},
			})
			references = append(references, reference{"panel_" + n, kinds[id], id})
		}
	}
	return saved{
		"dashboard", "wsrelay-" + b.id,
		map[string]any{
			"title": b.title, "description": b.description, "hits": 0, "version": 1, "panelsJSON": text(panels),
			"optionsJSON": text(map[string]bool{"useMargins": true, "hidePanelTitles": false}),
			"timeRestore": true, "timeFrom": "now-24h", "timeTo": "now", "refreshInterval": map[string]any{"pause": false, "value": 10000},
			"kibanaSavedObjectMeta": map[string]any{"searchSourceJSON": `{"query":{"query":"","language":"kuery"},"filter":[]}`},
		},
		references,
		map[string]string{"dashboard": "7.9.3"},
	}
}

// text is a value in the form in which saved objects hold most of theirs.
func text(v any) string {
	var b strings.Builder
	_ = json.NewEncoder(&b).Encode(v)
	return strings.TrimSuffix(b.String(), "\n")
}
