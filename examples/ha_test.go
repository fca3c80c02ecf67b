package examples_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// The Prometheus of the two replicas differs from prometheus.yml only in addresses.
func TestReplicasAreScrapedAsPrometheusYML(t *testing.T) {
	var alone, composed map[string]any
	text := strings.NewReplacer(
		`"localhost:10062"`, `"balance-exporter-1:10062", "balance-exporter-2:10062"`,
		"localhost:9093", "alertmanager:9093",
	).Replace(string(read(t, "prometheus.yml")))
	require.NoError(t, yaml.Unmarshal([]byte(text), &alone))
	require.NoError(t, yaml.Unmarshal(read(t, "compose/prometheus-ha.yml"), &composed))
	assert.Equal(t, alone, composed)
}

func TestComposeOfReplicasMountsWhatIsThere(t *testing.T) {
	var c struct {
		Services map[string]struct {
			Volumes   []string `yaml:"volumes"`
			DependsOn []string `yaml:"depends_on"`
			Command   []string `yaml:"command"`
		} `yaml:"services"`
		Volumes map[string]any `yaml:"volumes"`
	}
	require.NoError(t, yaml.Unmarshal(read(t, "compose-ha.yaml"), &c))
	assert.Equal(t, c.Services["balance-exporter-1"].Command, c.Services["balance-exporter-2"].Command)
	for name, service := range c.Services {
		for _, mount := range service.Volumes {
			source, _, _ := strings.Cut(mount, ":")
			switch {
			case source == "./secrets": // the user makes it
			case strings.HasPrefix(source, "."):
				assert.True(t, exists(source), "%s mounts %s", name, source)
			default:
				assert.Contains(t, c.Volumes, source, name)
			}
		}
		for _, other := range service.DependsOn {
			assert.Contains(t, c.Services, other, name)
		}
	}
}
