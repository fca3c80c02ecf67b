package recipe_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers/recipe"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipes"
)

// TestBuiltIn checks each recipe that comes with the exporter, and runs its examples.
func TestBuiltIn(t *testing.T) {
	files, err := fs.Glob(recipes.Files, "*.yml")
	require.NoError(t, err)
	for _, file := range files {
		name := strings.TrimSuffix(file, ".yml")
		t.Run(name, func(t *testing.T) {
			text, err := recipes.Files.ReadFile(file)
			require.NoError(t, err)
			section, err := config.ParseRecipe(file, text)
			require.NoError(t, err)
			p, err := recipe.New(section)
			require.NoError(t, err)
			require.Equal(t, name, p.Name, "the file is named for the recipe")
			require.NoError(t, p.Check())
		})
	}
}
