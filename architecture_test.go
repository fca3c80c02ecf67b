package main

import (
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/balance-exporter/balance_exporter/"

// importsOf returns what each package of the module imports, without its tests, by
// its path below the module.
func importsOf(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "e2e" || name == "testdata" || strings.HasPrefix(name, ".") && name != "." {
			return fs.SkipDir
		}
		pkg, err := build.ImportDir(path, 0)
		if err == nil && len(pkg.GoFiles) > 0 {
			out[filepath.ToSlash(path)] = pkg.Imports
		}
		return nil
	}))
	return out
}

// The data goes one way, from a provider's answer to a metric. These are the
// directions that keep it so.
func TestImports(t *testing.T) {
	const prometheusClient = "github.com/prometheus/client_golang/"
	mayImportClient := []string{".", "collector", "internal/exposition", "internal/server"}
	simulators := []string{"internal/demo", "internal/simulate"}
	for pkg, imports := range importsOf(t) {
		for _, path := range imports {
			local, isLocal := strings.CutPrefix(path, module)
			if strings.HasPrefix(path, prometheusClient) {
				assert.Contains(t, mayImportClient, pkg, "%s imports %s: only the collectors and what serves them know Prometheus", pkg, path)
			}
			if path == "testing" || strings.HasPrefix(path, "github.com/stretchr/") {
				assert.True(t, strings.HasSuffix(pkg, "test"), "%s imports %s: only packages for tests do", pkg, path)
			}
			if !isLocal {
				if pkg == "collector" {
					assert.NotEqual(t, "net/http", path, "collectors do no I/O")
				}
				continue
			}
			switch {
			case pkg == "collector":
				assert.Contains(t, []string{"providers", "internal/snapshot"}, local, "collectors see snapshots and nothing of how they are made")
			case isSimulator(pkg):
				assert.Equal(t, "internal/simulate", local, "%s imports %s: a simulator is made from the facts, not from its client", pkg, path)
			case isClient(pkg):
				assert.False(t, isClient(local) || isSimulator(local), "%s imports %s: providers do not know each other, nor their simulators", pkg, path)
				assert.NotContains(t, []string{"internal/cache", "internal/httpapi", "internal/state", "internal/server"}, local,
					"%s imports %s: a provider has the contract and its configuration", pkg, path)
			case isSimulator(local) || local == "internal/simulate":
				assert.True(t, slices.Contains(simulators, pkg) || strings.HasSuffix(pkg, "test"), "%s imports %s: only the demo has simulators", pkg, path)
			case isClient(local):
				assert.Contains(t, []string{"providers/all"}, pkg, "%s imports %s: only the list knows the providers", pkg, path)
			case pkg == "providers":
				assert.Contains(t, []string{"internal/config", "internal/quota", "internal/secret"}, local, "the domain stands below the rest")
			}
		}
	}
}

// isClient reports whether pkg is the package of one provider.
func isClient(pkg string) bool {
	name, ok := strings.CutPrefix(pkg, "providers/")
	return ok && !strings.Contains(name, "/") && name != "all" && name != "providertest"
}

func isSimulator(pkg string) bool {
	return strings.HasPrefix(pkg, "providers/") && strings.HasSuffix(pkg, "sim")
}
