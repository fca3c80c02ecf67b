package all_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/all"
)

func TestProviders(t *testing.T) {
	names := all.Names()
	require.Len(t, all.Providers(), len(names))
	seen := map[string]bool{}
	for i, p := range all.Providers() {
		require.Equal(t, names[i], p.Name)
		require.Regexp(t, regexp.MustCompile(`^[a-z0-9_]+$`), p.Name)
		require.False(t, seen[p.Name], "%s is listed twice", p.Name)
		seen[p.Name] = true

		if p.Load != nil {
			var err error
			p, err = p.Load()
			require.NoError(t, err)
		}
		require.Positive(t, p.RateLimit.Requests)
		require.Positive(t, p.RateLimit.Per)
		require.Positive(t, p.RateLimit.Burst)
		require.NotNil(t, p.Configure)
	}
}

// The first table of the README is the list that users read.
func TestReadmeListsTheProviders(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, table, ok := strings.Cut(string(text), "| provider | what it reads |")
	require.True(t, ok, "the README has the table of providers")
	table, _, _ = strings.Cut(table, "\n\n")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9]+)` \\|").FindAllStringSubmatch(table, -1) {
		listed = append(listed, m[1])
	}
	require.Equal(t, all.Names(), listed)
}
