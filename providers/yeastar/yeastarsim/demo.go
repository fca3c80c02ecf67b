package yeastarsim

import (
	"math"
	"strconv"
	"time"
)

// The demo account spends its credit within one demoPeriod, so that a low
// balance and a top-up can both be seen within minutes.
const (
	demoPeriod = 8 * time.Minute
	demoTop    = 675.24
	demoSpent  = 650.0
)

// demoBalance returns the balance as JSON, in units of an unnamed currency with
// two decimals, so long after the start. It never rises but at a top-up.
func demoBalance(elapsed time.Duration) string {
	part := float64(elapsed%demoPeriod) / float64(demoPeriod)
	// The wave makes spending faster and slower; its steepest descent is less
	// than the line's ascent, so the sum only grows.
	spent := part + math.Sin(part*10*math.Pi)/40
	return strconv.FormatFloat(demoTop-demoSpent*spent, 'f', 2, 64)
}
