package recipe_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers/all"
)

var update = flag.Bool("update", false, "rewrite the table of recipes and the errors of testdata/invalid")

// TestInvalid loads each file of testdata/invalid as --config.check does. Its first line
// is the whole error.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.yml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yml"), func(t *testing.T) {
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			first, rest, _ := strings.Cut(string(text), "\n")
			fault := check(text)
			require.Error(t, fault)
			if *update {
				require.NoError(t, os.WriteFile(path, []byte("# error: "+fault.Error()+"\n"+rest), 0o600))
				return
			}
			require.Equal(t, strings.TrimPrefix(first, "# error: "), fault.Error())
		})
	}
}

// check returns the first fault of a configuration.
func check(text []byte) error {
	file, err := config.Parse("c.yml", ".", text, os.LookupEnv, all.Known)
	if err != nil {
		return err
	}
	for _, p := range file.Providers {
		if p.Check != nil {
			if err := p.Check(); err != nil {
				return err
			}
		}
	}
	for _, a := range file.Accounts {
		if _, err := a.Configure(a.Section); err != nil {
			return err
		}
	}
	return nil
}
