package setup

import (
	"bytes"
	_ "embed"
)

// The saved objects are of the generation that Kibana 7.10 and OpenSearch
// Dashboards share, which later ones migrate when they import them: index
// patterns, visualizations that are aggregations, saved searches, dashboards. To
// change them, import them, edit them there, and export them again.
//
//go:embed dashboards.ndjson
var dashboards []byte

// lineIndices is the title of the index pattern of lines: what it shows.
const lineIndices = "wsrelay-*,-wsrelay-dead-*"

// Dashboards gives the saved objects as NDJSON, for the import of Kibana from
// 7.10 on and of OpenSearch Dashboards. They show what is in the data stream, too,
// if it is not "".
func Dashboards(stream string) []byte {
	if stream == "" {
		return dashboards
	}
	title := `"title":"` + lineIndices
	return bytes.Replace(dashboards, []byte(title), []byte(title+","+stream), 1)
}
