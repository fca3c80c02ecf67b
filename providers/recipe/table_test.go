package recipe

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
)

// TestTable holds the table in docs/recipes.md against the recipes. With -update it
// writes the table.
func TestTable(t *testing.T) {
	const path, begin, end = "../../docs/recipes.md", "<!-- generated: recipes -->\n", "<!-- end -->\n"
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	want := before + begin + table(t) + end + after
	if updating() {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(text), "run go test ./providers/recipe -run TestTable -update")
}

// table returns a row for each recipe that comes with the exporter.
func table(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| provider | reads | settings | secrets | rate limit | source | verified |\n|---|---|---|---|---|---|---|\n")
	files, err := fs.Glob(recipes.Files, "*.yml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := recipes.Files.ReadFile(file)
		require.NoError(t, err)
		section, err := config.ParseRecipe(file, text)
		require.NoError(t, err)
		r, err := parse(section)
		require.NoError(t, err)
		var reads, sources []string
		if r.Balance != nil {
			reads = append(reads, "balance")
		}
		if r.Prices != nil && r.perCountry() {
			reads = append(reads, "prices by country")
		} else if r.Prices != nil {
			reads = append(reads, "prices")
		}
		settings := r.Settings
		if r.BaseURL == "" {
			settings = append([]string{"base_url"}, settings...)
		}
		for i, link := range r.Docs {
			sources = append(sources, fmt.Sprintf("[%d](%s)", i+1, link))
		}
		_, _ = fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %d per %s, burst %d | %s | %s |\n", r.Name, strings.Join(reads, ", "), code(settings), code(r.Secrets),
			r.RateLimit.Requests, r.RateLimit.Per, r.RateLimit.Burst, strings.Join(sources, " "), map[bool]string{true: "yes", false: "no"}[r.Verified])
	}
	return b.String()
}

func code(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "`" + strings.Join(names, "`, `") + "`"
}

// updating reports whether -update was given.
func updating() bool {
	f := flag.Lookup("update") // of the package recipe_test
	return f != nil && f.Value.String() == "true"
}
