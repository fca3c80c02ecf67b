package recipe_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/providers/all/alltest"
	"github.com/balance-exporter/balance_exporter/providers/providertest"
	"github.com/balance-exporter/balance_exporter/providers/recipe/recipesim"
)

// TestConformance runs the suite over some kinds of recipes, and in its long form over
// all recipes.
func TestConformance(t *testing.T) {
	cases := recipesim.Named("messente", "reloadly")
	if os.Getenv("BALANCE_EXPORTER_SLOW") != "" {
		cases = recipesim.All()
	}
	for _, c := range cases {
		t.Run(c.Provider, func(t *testing.T) {
			t.Parallel()
			p, ok := alltest.Provider(c.Provider)
			require.True(t, ok)
			providertest.RunQuick(t, p, c)
		})
	}
}
