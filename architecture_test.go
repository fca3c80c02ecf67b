package main

import (
	"bytes"
	"fmt"
	"go/build"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/balance-exporter/balance_exporter/providers/all"
	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
)

const (
	module           = "github.com/balance-exporter/balance_exporter/"
	prometheusClient = "github.com/prometheus/client_golang/"
)

// mayImport lists the packages of this module that a package may import. Data flows
// one way, from the answer of a provider to a metric; these directions enforce it.
var mayImport = map[string][]string{
	".":                        {"internal/config", "internal/exporter"},
	"collector":                {"internal/snapshot", "providers"},
	"internal/cache":           {"internal/gate", "internal/portions", "internal/quota", "internal/secret", "internal/snapshot", "internal/state", "providers"},
	"internal/config":          {"internal/quota", "internal/secret", "providers"},
	"internal/exposition":      {"collector", "internal/snapshot", "providers"},
	"internal/gate":            {"internal/quota", "providers"},
	"internal/httpapi":         {"internal/config", "internal/gate", "internal/quota", "internal/secret", "providers"},
	"internal/logging":         {},
	"internal/portions":        {},
	"internal/quota":           {},
	"internal/secret":          {},
	"internal/server":          {"internal/exposition", "internal/logging", "internal/snapshot", "providers"},
	"internal/servertest":      {},
	"internal/simulate":        {},
	"internal/snapshot":        {"internal/quota", "providers"},
	"internal/state":           {"internal/portions", "internal/quota", "internal/secret", "internal/snapshot", "providers"},
	"providers":                {"internal/quota", "internal/secret"},
	"providers/kit":            {"internal/quota", "internal/secret", "providers"},
	"providers/recipe/recipes": {},
}

// anyImport are the packages that put others together.
var anyImport = []string{
	"internal/demo", "internal/exporter", "internal/state/statetest", "providers/all", "providers/all/alltest", "providers/providertest",
}

// importFaults returns what is wrong with the imports of a package, which has its path
// below the module.
func importFaults(pkg string, imports []string) []string {
	allowed, listed := mayImport[pkg]
	switch {
	case isSimulator(pkg): // made from the provider's documentation, not from its client
		allowed, listed = []string{"internal/simulate", "providers/recipe/recipes"}, true
	case isClient(pkg):
		allowed, listed = []string{"internal/portions", "internal/quota", "internal/secret", "providers", "providers/kit"}, true
	}
	var faults []string
	if !listed && !slices.Contains(anyImport, pkg) {
		faults = append(faults, "is not in mayImport of architecture_test.go; add it")
	}
	for _, path := range imports {
		local, isLocal := strings.CutPrefix(path, module)
		switch {
		case isLocal && listed && !slices.Contains(allowed, local):
			faults = append(faults, fmt.Sprintf("imports %s; it may import only %q of this module", local, allowed))
		case strings.HasPrefix(path, prometheusClient) && !slices.Contains([]string{"collector", "internal/exporter", "internal/exposition", "internal/server"}, pkg):
			faults = append(faults, "imports "+path+"; only the collectors and what serves them do")
		case path == "net/http" && pkg == "collector":
			faults = append(faults, "imports net/http; a collector does no I/O")
		case (path == "testing" || strings.HasPrefix(path, "github.com/stretchr/")) && !strings.HasSuffix(pkg, "test"):
			faults = append(faults, "imports "+path+"; only packages for tests do")
		}
	}
	return faults
}

// isClient reports whether pkg is the package of one provider.
func isClient(pkg string) bool {
	name, ok := strings.CutPrefix(pkg, "providers/")
	return ok && !strings.Contains(name, "/") && !slices.Contains([]string{"all", "kit", "providertest"}, name)
}

func isSimulator(pkg string) bool {
	return strings.HasPrefix(pkg, "providers/") && strings.HasSuffix(pkg, "sim")
}

func TestImports(t *testing.T) {
	seen := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); name == "e2e" || name == "testdata" || strings.HasPrefix(name, ".") && name != "." {
			return fs.SkipDir
		}
		pkg, err := build.ImportDir(path, 0)
		if err == nil && len(pkg.GoFiles) > 0 {
			path = filepath.ToSlash(path)
			seen[path] = true
			for _, fault := range importFaults(path, pkg.Imports) {
				t.Errorf("package %s %s", path, fault)
			}
		}
		return nil
	}))
	for _, pkg := range slices.Concat(slices.Collect(maps.Keys(mayImport)), anyImport) {
		assert.True(t, seen[pkg], "package %s of architecture_test.go does not exist", pkg)
	}
}

// docs/architecture.md has each package, or the one that it belongs to.
func TestArchitectureNamesEachPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docs", "architecture.md"))
	require.NoError(t, err)
	for _, pkg := range slices.Concat(slices.Collect(maps.Keys(mayImport)), anyImport) {
		if base := path.Base(pkg); pkg != "." && base != path.Base(path.Dir(pkg))+"sim" {
			assert.True(t, strings.Contains(string(text), "`"+pkg+"`") || strings.Contains(string(text), "`"+pkg+"/`") || strings.Contains(string(text), "`"+base+"`"), "docs/architecture.md does not name %s", pkg)
		}
	}
}

func TestImportFaults(t *testing.T) {
	for _, c := range []struct{ pkg, path, fault string }{
		{".", module + "internal/cache", "imports internal/cache"},
		{"collector", "net/http", "does no I/O"},
		{"collector", module + "providers/yeastar", "imports providers/yeastar"},
		{"collector", module + "internal/cache", "imports internal/cache"},
		{"providers", module + "internal/config", "imports internal/config"},
		{"providers", prometheusClient + "prometheus", "only the collectors"},
		{"providers/yeastar", module + "providers/flolive", "imports providers/flolive"},
		{"providers/yeastar", module + "providers/yeastar/yeastarsim", "imports providers/yeastar/yeastarsim"},
		{"providers/yeastar", module + "internal/config", "imports internal/config"},
		{"providers/yeastar/yeastarsim", module + "providers/yeastar", "imports providers/yeastar"},
		{"internal/httpapi", module + "internal/state", "imports internal/state"},
		{"internal/gate", module + "internal/state", "imports internal/state"},
		{"internal/quota", module + "providers", "imports providers"},
		{"internal/cache", prometheusClient + "prometheus", "only the collectors"},
		{"internal/cache", "testing", "only packages for tests"},
		{"internal/new", "fmt", "add it"},
	} {
		faults := importFaults(c.pkg, []string{"strings", c.path})
		assert.Len(t, faults, 1, "%s imports %s", c.pkg, c.path)
		assert.Contains(t, strings.Join(faults, "\n"), c.fault)
	}
	assert.Empty(t, importFaults("collector", []string{"fmt", prometheusClient + "prometheus", module + "providers"}))
}

func TestMainIsShort(t *testing.T) {
	lines := 0
	for _, file := range []string{"main.go", "flags.go"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		lines += bytes.Count(text, []byte("\n"))
	}
	assert.LessOrEqual(t, lines, 120, "main.go and flags.go read the flags and call exporter.Run; the rest is in internal/exporter")
}

// Each provider has cases for the tests of the whole program, a row in README.md and
// its keys in docs/configuration.md.
func TestProvidersAreTestedAndDocumented(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	docs, err := os.ReadFile(filepath.Join("docs", "configuration.md"))
	require.NoError(t, err)
	sections := map[string]string{}
	for section := range strings.SplitSeq(string(docs), "\n## ") {
		title, text, _ := strings.Cut(section, "\n")
		sections[title] = text
	}
	for _, p := range all.Providers() {
		name := p.Name
		if p.Load != nil {
			continue // a recipe: providers/recipe holds the table in docs/recipes.md
		}
		assert.Contains(t, string(readme), "\n| `"+name+"` | ", "README.md has no row for the provider")
		documented := sections[name] + sections["Parts of an account"]
		require.NotEmpty(t, sections[name], "docs/configuration.md has no section %s", name)
		keys := map[string]bool{}
		for _, c := range alltest.Cases() {
			if c.Provider != name {
				continue
			}
			configs := []string{c.Open(nil).Config}
			for _, s := range c.Samples {
				configs = append(configs, s.Config)
			}
			for _, config := range configs {
				var settings map[string]any
				require.NoError(t, yaml.Unmarshal([]byte(config), &settings))
				addKeys(keys, settings)
			}
		}
		assert.NotEmpty(t, keys, "%s has no cases in providers/all/alltest", name)
		for key := range keys {
			_, inPart, _ := strings.Cut(key, ".")
			assert.True(t, strings.Contains(documented, "`"+key+"`") || inPart != "" && strings.Contains(documented, "`"+inPart+"`"),
				"docs/configuration.md does not document the key %s of %s", key, name)
		}
	}
}

// addKeys adds the keys of settings, and those of their parts as part.key.
func addKeys(keys map[string]bool, settings map[string]any) {
	for key, value := range settings {
		part, ok := value.(map[string]any)
		if !ok {
			keys[key] = true
		}
		for inPart := range part {
			keys[key+"."+inPart] = true
		}
	}
}
