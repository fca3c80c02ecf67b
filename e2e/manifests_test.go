package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// manifests are the objects of examples/kubernetes.
type manifests struct {
	deployment *apps.Deployment
	service    *core.Service
	monitor    *monitoring.ServiceMonitor
	rule       *monitoring.PrometheusRule
	// Of the replicas' state; nil without.
	valkey        *apps.Deployment
	valkeyService *core.Service
	budget        *policy.PodDisruptionBudget
	// The names of what volumes can be made of, by kind.
	secrets, configMaps, claims, accounts map[string]bool
}

// readManifests decodes as Kubernetes and the Prometheus operator do, and refuses keys
// that they do not know.
func readManifests(t *testing.T, deployment string) manifests {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, policy.AddToScheme, monitoring.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	m := manifests{secrets: map[string]bool{}, configMaps: map[string]bool{}, claims: map[string]bool{}, accounts: map[string]bool{}}
	for _, name := range []string{deployment, "servicemonitor.yaml", "prometheusrule.yaml"} {
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(readExample(t, "kubernetes/"+name))))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
			if onlyComments(document) {
				continue
			}
			object, _, err := strict.Decode(document, nil, nil)
			require.NoError(t, err, "%s: %s", name, document)
			switch o := object.(type) {
			case *apps.Deployment:
				if o.Name == valkey {
					m.valkey = o
				} else {
					m.deployment = o
				}
			case *core.Service:
				if o.Name == valkey {
					m.valkeyService = o
				} else {
					m.service = o
				}
			case *policy.PodDisruptionBudget:
				m.budget = o
			case *core.Secret:
				m.secrets[o.Name] = true
			case *core.ConfigMap:
				m.configMaps[o.Name] = true
			case *core.PersistentVolumeClaim:
				m.claims[o.Name] = true
			case *core.ServiceAccount:
				m.accounts[o.Name] = true
			case *monitoring.ServiceMonitor:
				m.monitor = o
			case *monitoring.PrometheusRule:
				m.rule = o
			default:
				t.Errorf("%s: no check for a %T", name, o)
			}
		}
	}
	require.NotNil(t, m.deployment)
	require.NotNil(t, m.service)
	require.NotNil(t, m.monitor)
	require.NotNil(t, m.rule)
	return m
}

func onlyComments(document []byte) bool {
	for line := range strings.Lines(string(document)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

const valkey = "balance-exporter-valkey"

// The objects are such as Kubernetes takes, and refer to each other.
func TestKubernetesManifests(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"deployment.yaml", "ha/replicas.yaml"} {
		t.Run(name, func(t *testing.T) { checkManifests(t, readManifests(t, name)) })
	}
}

// The replicas find Valkey, with its password, and one of them is always there.
func TestKubernetesReplicas(t *testing.T) {
	t.Parallel()
	m := readManifests(t, "ha/replicas.yaml")
	require.NotNil(t, m.valkey)
	require.NotNil(t, m.valkeyService)
	require.NotNil(t, m.budget)
	assert.EqualValues(t, 2, *m.deployment.Spec.Replicas)
	assert.Equal(t, m.deployment.Spec.Selector.MatchLabels, m.budget.Spec.Selector.MatchLabels)
	pod := m.valkey.Spec.Template
	assert.Subset(t, pod.Labels, m.valkey.Spec.Selector.MatchLabels)
	assert.Subset(t, pod.Labels, m.valkeyService.Spec.Selector)
	assert.NotSubset(t, pod.Labels, m.service.Spec.Selector, "scrapes do not reach Valkey")
	port := m.valkeyService.Spec.Ports[0]
	assert.Equal(t, pod.Spec.Containers[0].Ports[0].Name, port.TargetPort.StrVal)
	args := m.deployment.Spec.Template.Spec.Containers[0].Args
	assert.Contains(t, args, fmt.Sprintf("--state.url=redis://%s:%d", m.valkeyService.Name, port.Port))
	assert.Contains(t, args, "--state.password-file=/run/secrets/balance_exporter_state/password")
	assert.Contains(t, pod.Spec.Containers[0].Args[0], `--requirepass "$(cat /run/secrets/valkey/password)"`)
	assert.Contains(t, pod.Spec.Containers[0].Args[0], "--maxmemory-policy noeviction")
	for _, v := range pod.Spec.Volumes {
		if v.Secret != nil {
			assert.True(t, m.secrets[v.Secret.SecretName])
		}
	}
}

func checkManifests(t *testing.T, m manifests) {
	pod := m.deployment.Spec.Template
	assert.Subset(t, pod.Labels, m.deployment.Spec.Selector.MatchLabels)
	assert.Subset(t, pod.Labels, m.service.Spec.Selector)
	assert.Subset(t, m.service.Labels, m.monitor.Spec.Selector.MatchLabels)
	assert.True(t, m.accounts[pod.Spec.ServiceAccountName])

	require.Len(t, pod.Spec.Containers, 1)
	container := pod.Spec.Containers[0]
	require.Len(t, container.Ports, 1)
	require.Len(t, m.service.Spec.Ports, 1)
	require.Len(t, m.monitor.Spec.Endpoints, 1)
	assert.Equal(t, container.Ports[0].Name, m.service.Spec.Ports[0].TargetPort.StrVal)
	assert.Equal(t, m.service.Spec.Ports[0].Name, m.monitor.Spec.Endpoints[0].Port)
	for _, probe := range []*core.Probe{container.LivenessProbe, container.ReadinessProbe} {
		assert.Equal(t, container.Ports[0].Name, probe.HTTPGet.Port.StrVal)
	}

	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
		switch {
		case v.Secret != nil:
			assert.True(t, m.secrets[v.Secret.SecretName], v.Name)
		case v.ConfigMap != nil:
			assert.True(t, m.configMaps[v.ConfigMap.Name], v.Name)
		case v.PersistentVolumeClaim != nil:
			assert.True(t, m.claims[v.PersistentVolumeClaim.ClaimName], v.Name)
		default:
			t.Errorf("volume %s is made of nothing that is there", v.Name)
		}
	}
	for _, mount := range container.VolumeMounts {
		assert.True(t, volumes[mount.Name], mount.Name)
	}
}

// Compose's own loader takes the files.
func TestComposeFile(t *testing.T) {
	t.Parallel()
	for file, services := range map[string][]string{
		"compose.yaml":    {"balance-exporter"},
		"compose-ha.yaml": {"balance-exporter-1", "balance-exporter-2", "valkey", "prometheus"},
	} {
		options, err := cli.NewProjectOptions([]string{filepath.Join(examples, file)}, cli.WithName("balance_exporter"),
			cli.WithEnvFiles(), cli.WithDotEnv)
		require.NoError(t, err)
		project, err := options.LoadProject(t.Context())
		require.NoError(t, err)
		assert.Subset(t, project.ServiceNames(), services)
		assert.Regexp(t, `^ghcr\.io/balance-exporter/balance_exporter:v[0-9.]+$`, project.Services[services[0]].Image)
	}
}
