package providertest

import (
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
)

// TB is a [testing.TB] or a [T].
type TB interface {
	require.TestingT
	Helper()
}

// Parse returns the only account of a configuration file in dir, and the file for its
// warnings. The account has the given name and, besides, the given lines, indented as if
// it began at the margin. The environment is empty.
func Parse(t TB, p providers.Provider, name, dir string, lines ...string) (*config.Account, *config.File) {
	t.Helper()
	text := fmt.Sprintf("accounts:\n  - name: %s\n    provider: %s\n    %s\n", name, p.Name, strings.Join(lines, "\n    "))
	empty := func(string) (string, bool) { return "", false }
	file, err := config.Parse("balance_exporter.yml", dir, []byte(text), empty, config.Only(p))
	require.NoError(t, err)
	return file.Accounts[0], file
}
