package all_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers/all"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

// Every provider of the exporter has a case, and each case is complete.
func TestCases(t *testing.T) {
	var names []string
	seen := map[string]bool{}
	for _, c := range alltest.Cases() {
		names = append(names, c.Provider)
		id := c.Provider + "/" + c.Name
		assert.False(t, seen[id], "%s is listed twice", id)
		seen[id] = true
		assert.DirExists(t, "../"+c.Dir, id)
		assert.NotEmpty(t, c.Secrets, id)
		assert.NotEmpty(t, c.Endpoints, id)
		assert.Positive(t, c.Values, id)
		for _, e := range c.Errors {
			assert.True(t, slices.ContainsFunc(c.Endpoints, func(p simulate.Endpoint) bool { return p.Name == e.Endpoint }), "%s: %s", id, e.Body)
		}
		for _, secret := range c.Secrets {
			assert.Contains(t, c.Open(nil).Config, "'"+secret+"'", id)
		}
		assert.Equal(t, c.Open(nil).Config, c.Open(nil).Config, id)
	}
	for _, p := range all.Providers() {
		if p.Load == nil { // recipes share their code
			assert.Contains(t, names, p.Name, "add the cases of a new provider to alltest.Cases")
		}
	}
}
