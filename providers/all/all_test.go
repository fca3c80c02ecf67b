package all_test

import (
	"net/url"
	"regexp"
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
		require.Regexp(t, regexp.MustCompile(`^[a-z0-9]+$`), p.Name)
		require.False(t, seen[p.Name], "%s is listed twice", p.Name)
		seen[p.Name] = true

		base, err := url.Parse(p.BaseURL)
		require.NoError(t, err)
		require.Equal(t, "https", base.Scheme)
		require.Positive(t, p.RateLimit.Requests)
		require.Positive(t, p.RateLimit.Per)
		require.Positive(t, p.RateLimit.Burst)
		require.NotNil(t, p.Configure)

		found, ok := all.Lookup(p.Name)
		require.True(t, ok)
		require.Equal(t, p.BaseURL, found.BaseURL)
	}
	_, ok := all.Lookup("unheard-of")
	require.False(t, ok)
}
