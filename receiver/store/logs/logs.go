// Package logs is the embedded log database: the storage engine of VictoriaLogs
// behind a journal.
package logs

import (
	_ "github.com/VictoriaMetrics/VictoriaLogs/app/vlselect"   // the query API
	_ "github.com/VictoriaMetrics/VictoriaLogs/app/vlstorage"  // the storage behind it
	_ "github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage" // rows and queries
	_ "github.com/VictoriaMetrics/VictoriaMetrics/lib/flagutil"
	_ "github.com/VictoriaMetrics/VictoriaMetrics/lib/logger" // whose lines become ours
)
