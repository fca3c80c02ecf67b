// Package recipes holds the recipes that come with the exporter, one file for each
// provider: NAME.yml. docs/recipes.md describes their form.
package recipes

import "embed"

// Files are the recipes.
//
//go:embed *.yml
var Files embed.FS
