package chart

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	securityapi "k8s.io/pod-security-admission/api"
	security "k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write examples/kubernetes instead of comparing it")

const (
	root     = "../.."
	folder   = root + "/charts/balance-exporter"
	examples = root + "/examples"
)

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(folder)
	require.NoError(t, err)
	return c
}

// values parses values in YAML.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	v := map[string]any{}
	require.NoError(t, sigsyaml.Unmarshal([]byte(text), &v))
	return v
}

// render returns the files that `helm template RELEASE` renders, by name.
func render(t *testing.T, release string, v map[string]any) (map[string]string, error) {
	t.Helper()
	c := load(t)
	all, err := chartutil.ToRenderValues(c, v, chartutil.ReleaseOptions{Name: release, Namespace: "monitoring", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name, text := range rendered {
		if name = path.Base(name); !strings.HasPrefix(name, "_") && strings.TrimSpace(text) != "" {
			files[name] = text
		}
	}
	return files, nil
}

// decode decodes as Kubernetes and the Prometheus operator do, and refuses keys that they
// do not know. The keys of the result are Kind/name.
func decode(t *testing.T, files map[string]string) map[string]runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{core.AddToScheme, apps.AddToScheme, networking.AddToScheme, policy.AddToScheme, monitoring.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	objects := map[string]runtime.Object{}
	for name, text := range files {
		if path.Ext(name) != ".yaml" {
			continue
		}
		documents := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
			object, kind, err := strict.Decode(document, nil, nil)
			require.NoError(t, err, "%s:\n%s", name, document)
			named, ok := object.(meta.Object)
			require.True(t, ok, name)
			objects[kind.Kind+"/"+named.GetName()] = object
		}
	}
	return objects
}

// objects renders and decodes.
func objects(t *testing.T, text string) map[string]runtime.Object {
	t.Helper()
	files, err := render(t, "balance-exporter", values(t, text))
	require.NoError(t, err)
	return decode(t, files)
}

func names(objects map[string]runtime.Object) []string {
	return slices.Sorted(maps.Keys(objects))
}

func deployment(t *testing.T, objects map[string]runtime.Object) *apps.Deployment {
	t.Helper()
	for _, o := range objects {
		if d, ok := o.(*apps.Deployment); ok {
			require.Len(t, d.Spec.Template.Spec.Containers, 1)
			return d
		}
	}
	t.Fatal("no Deployment")
	return nil
}

// The values of the tests: each feature alone, and one with all of them.
const (
	account  = "accounts: [{name: messaging, provider: 8x8, account_id: a, api_key_file: /run/secrets/balance_exporter/8x8}]\n"
	existing = account + "secrets: {existingSecret: accounts}\n"
	redis    = existing + "replicas: 2\nstate: {url: 'redis://exporter@redis:6380/1', passwordSecret: {name: redis}, prefix: 'prod:'}\n"
	all      = `
accounts: [{name: messaging, provider: 8x8, account_id: a, api_key_file: /run/secrets/balance_exporter/8x8}]
recipes: [{name: acme, base_url: https://api.acme.example}]
files: {subscribers.csv: "type,value,name,balance_ids\niccid,8944501234567890123,truck-12,\n"}
secrets: {projected: [{secret: {name: one, items: [{key: api-key, path: 8x8}]}}, {secret: {name: two}}]}
replicas: 3
state: {url: "redis-sentinel://exporter@one:26379,two:26379/main/1", passwordSecret: {name: redis, key: pw}, prefix: "prod:"}
web: {existingSecret: web, telemetryPath: /m}
image: {tag: v9, digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef, pullPolicy: Always}
imagePullSecrets: [{name: registry}]
extraArgs: [--scrape.max-wait=1s]
env: [{name: A, value: b}]
envFrom: [{secretRef: {name: environment}}]
extraObjects: [{apiVersion: v1, kind: Service, metadata: {name: extra}, spec: {selector: {app.kubernetes.io/name: balance-exporter}, ports: [{name: http, port: 81, targetPort: http}]}}]
extraVolumes: [{name: tmp, emptyDir: {}}]
extraVolumeMounts: [{name: tmp, mountPath: /tmp}]
service: {type: NodePort, port: 80, annotations: {a: b}}
serviceAccount: {annotations: {a: b}}
serviceMonitor: {enabled: true, labels: {release: prometheus}, endpoint: {scheme: https, tlsConfig: {insecureSkipVerify: true}, basicAuth: {username: {name: web, key: user}, password: {name: web, key: password}}}}
prometheusRule: {enabled: true, labels: {release: prometheus}}
dashboard: {enabled: true, annotations: {grafana_folder: Telecom}}
networkPolicy: {enabled: true, from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], egress: [{ports: [{port: 3128}]}]}
podDisruptionBudget: {enabled: true}
podAnnotations: {a: b}
podLabels: {team: voice}
priorityClassName: high
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: balance-exporter}}}]
`
)

func TestLint(t *testing.T) {
	for name, text := range map[string]string{"all": all, "demo": "demo: true", "existing": existing} {
		linter := lint.AllWithKubeVersion(folder, values(t, text), "monitoring", nil)
		for _, m := range linter.Messages {
			// The chart has no icon.
			assert.LessOrEqual(t, m.Severity, support.InfoSev, "%s: %s", name, m)
		}
	}
}

func TestObjects(t *testing.T) {
	for name, c := range map[string]struct {
		values string
		want   []string
	}{
		"accounts": {account, []string{"ConfigMap/balance-exporter", "Deployment/balance-exporter", "PersistentVolumeClaim/balance-exporter", "Service/balance-exporter", "ServiceAccount/balance-exporter"}},
		"demo":     {"demo: true", []string{"Deployment/balance-exporter", "Service/balance-exporter", "ServiceAccount/balance-exporter"}},
		"secrets of the chart": {account + "secrets: {data: {8x8: key}}", []string{
			"ConfigMap/balance-exporter", "Deployment/balance-exporter", "PersistentVolumeClaim/balance-exporter",
			"Secret/balance-exporter", "Service/balance-exporter", "ServiceAccount/balance-exporter",
		}},
		"nothing of the chart's own": {"existingConfigMap: mine\nserviceAccount: {create: false}\nstate: {volume: {existingClaim: mine}}", []string{"Deployment/balance-exporter", "Service/balance-exporter"}},
		"memory":                     {account + "state: {url: 'memory:'}", []string{"ConfigMap/balance-exporter", "Deployment/balance-exporter", "Service/balance-exporter", "ServiceAccount/balance-exporter"}},
		"another name":               {"demo: true\nfullnameOverride: other", []string{"Deployment/other", "Service/other", "ServiceAccount/other"}},
		"all": {all, []string{
			"ConfigMap/balance-exporter", "ConfigMap/balance-exporter-dashboard", "Deployment/balance-exporter", "NetworkPolicy/balance-exporter",
			"PodDisruptionBudget/balance-exporter", "PrometheusRule/balance-exporter", "Service/balance-exporter", "Service/extra", "ServiceAccount/balance-exporter", "ServiceMonitor/balance-exporter",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o := objects(t, c.values)
			assert.Equal(t, c.want, names(o))
			checkReferences(t, o, c.values)
		})
	}
}

// checkReferences checks that selectors, ports and volumes refer to something.
func checkReferences(t *testing.T, objects map[string]runtime.Object, values string) {
	t.Helper()
	d := deployment(t, objects)
	pod, container := d.Spec.Template, d.Spec.Template.Spec.Containers[0]
	assert.Subset(t, pod.Labels, d.Spec.Selector.MatchLabels)
	volumes := map[string]bool{}
	exists := func(kind, name string) {
		_, made := objects[kind+"/"+name]
		assert.True(t, made || strings.Contains(values, name), "the pod mounts the %s %s, which the values do not name", kind, name)
	}
	for _, v := range pod.Spec.Volumes {
		assert.False(t, volumes[v.Name], "two volumes %s", v.Name)
		volumes[v.Name] = true
		switch {
		case v.Secret != nil:
			exists("Secret", v.Secret.SecretName)
		case v.ConfigMap != nil:
			exists("ConfigMap", v.ConfigMap.Name)
		case v.PersistentVolumeClaim != nil:
			exists("PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
		}
	}
	mounted := map[string]bool{}
	for _, m := range container.VolumeMounts {
		assert.True(t, volumes[m.Name], m.Name)
		mounted[m.Name] = true
	}
	assert.Equal(t, volumes, mounted)
	for _, o := range objects {
		switch o := o.(type) {
		case *core.Service:
			assert.Subset(t, pod.Labels, o.Spec.Selector)
			assert.Equal(t, container.Ports[0].Name, o.Spec.Ports[0].TargetPort.StrVal)
		case *networking.NetworkPolicy:
			assert.Subset(t, pod.Labels, o.Spec.PodSelector.MatchLabels)
			assert.Equal(t, container.Ports[0].Name, o.Spec.Ingress[0].Ports[0].Port.StrVal)
		case *policy.PodDisruptionBudget:
			assert.Subset(t, pod.Labels, o.Spec.Selector.MatchLabels)
		case *monitoring.ServiceMonitor:
			s := objects["Service/"+o.Name].(*core.Service)
			assert.Subset(t, s.Labels, o.Spec.Selector.MatchLabels)
			assert.Equal(t, s.Spec.Ports[0].Name, o.Spec.Endpoints[0].Port)
		}
	}
}

func TestBadValues(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"no account":            {"{}", "accounts: there is no account; set accounts, existingConfigMap or demo"},
		"replicas with a file":  {existing + "replicas: 2", "replicas: 2 replicas would each spend the whole quota of every account; set state.url to redis:, rediss: or redis-sentinel:, or replicas to 1"},
		"a state elsewhere":     {existing + "state: {url: 'sqlite:/tmp/state.db'}", "state.url: sqlite:/tmp/state.db is outside the volume; set a path below /var/lib/balance_exporter"},
		"two configurations":    {account + "existingConfigMap: mine", "existingConfigMap: is used instead of accounts, recipes and files; remove either"},
		"two kinds of secrets":  {existing + "  \nreplicas: 1\n" + "extraArgs: []\n", ""},
		"a second config.yml":   {account + "files: {config.yml: 'accounts: []'}", "files: config.yml is made of accounts and recipes; remove it, or set existingConfigMap"},
		"a flag of the chart":   {existing + "extraArgs: [--log.level=debug]", "extraArgs: --log.level=debug belongs to the chart; remove it, and set the chart's own value"},
		"another port":          {existing + "extraArgs: ['--web.listen-address=:80']", "extraArgs: --web.listen-address=:80 belongs to the chart"},
		"a key of the endpoint": {existing + "serviceMonitor: {endpoint: {relabelings: []}}", "serviceMonitor.endpoint.relabelings: the chart sets it; remove it"},
		"an unknown key":        {existing + "replica: 2", "replica"},
		"an unknown key inside": {account + "secrets: {existing: accounts}", "existing"},
		"an unknown state":      {account + "state: {url: 'etcd://x'}", "state"},
		"a level":               {account + "log: {level: loud}", "level"},
	} {
		t.Run(name, func(t *testing.T) {
			v := values(t, c.values)
			if name == "two kinds of secrets" {
				v["secrets"].(map[string]any)["data"] = map[string]any{"8x8": "key"}
				c.want = "secrets: set only one of existingSecret, projected and data"
			}
			_, err := render(t, "balance-exporter", v)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// The names of the release are those of the chart or contain it.
func TestReleaseName(t *testing.T) {
	for release, want := range map[string]string{"balance-exporter": "balance-exporter", "prod": "prod-balance-exporter", strings.Repeat("a", 53): strings.Repeat("a", 53) + "-balance-e"} {
		files, err := render(t, release, values(t, "demo: true\ndashboard: {enabled: true}"))
		require.NoError(t, err)
		o := decode(t, files)
		assert.Contains(t, names(o), "Deployment/"+want)
		for _, name := range names(o) {
			assert.LessOrEqual(t, len(path.Base(name)), 63)
		}
	}
}

func TestConfiguration(t *testing.T) {
	o := objects(t, `
accounts:
  - {name: fleet, provider: flolive, username: "007", prices: {max_series: 2000000}, balance: {low_threshold: 1500000.25}, networks: [{mcc: "525", mnc: "01"}], api_key: "${KEY}", note: "a: b # c\n- d"}
recipes: [{name: acme, balance: {value: '{amount: .balance}'}}]
files: {subscribers.csv: "type,value\niccid,\"1\"\n"}
`)
	data := o["ConfigMap/balance-exporter"].(*core.ConfigMap).Data
	assert.Equal(t, "type,value\niccid,\"1\"\n", data["subscribers.csv"])
	assert.Equal(t, `accounts:
  - api_key: ${KEY}
    balance:
      low_threshold: 1.50000025e+06
    name: fleet
    networks:
    - mcc: "525"
      mnc: "01"
    note: |-
      a: b # c
      - d
    prices:
      max_series: 2000000
    provider: flolive
    username: "007"
recipes:
  - balance:
      value: '{amount: .balance}'
    name: acme
`, data["config.yml"])
}

func TestReplicas(t *testing.T) {
	d := deployment(t, objects(t, redis))
	assert.EqualValues(t, 2, *d.Spec.Replicas)
	assert.Equal(t, apps.RollingUpdateDeploymentStrategyType, d.Spec.Strategy.Type)
	container := d.Spec.Template.Spec.Containers[0]
	for _, want := range []string{"--state.url=redis://exporter@redis:6380/1", "--state.password-file=/run/secrets/balance_exporter_state/password", "--state.prefix=prod:"} {
		assert.Contains(t, container.Args, want)
	}
	assert.Contains(t, container.VolumeMounts, core.VolumeMount{Name: "state-password", MountPath: "/run/secrets/balance_exporter_state", ReadOnly: true})
	require.Len(t, d.Spec.Template.Spec.TopologySpreadConstraints, 1)
	budget := "podDisruptionBudget: {enabled: true}\n"
	assert.Contains(t, names(objects(t, redis+budget)), "PodDisruptionBudget/balance-exporter")
	assert.NotContains(t, names(objects(t, existing+budget)), "PodDisruptionBudget/balance-exporter", "it protects nothing")

	d = deployment(t, objects(t, existing))
	assert.EqualValues(t, 1, *d.Spec.Replicas)
	assert.Equal(t, apps.RecreateDeploymentStrategyType, d.Spec.Strategy.Type)
	assert.Empty(t, d.Spec.Template.Spec.TopologySpreadConstraints)
}

// Kubernetes' own probes have no password and no client certificate.
func TestProbesUnderBasicAuth(t *testing.T) {
	plain := deployment(t, objects(t, existing)).Spec.Template.Spec.Containers[0]
	assert.Equal(t, "/-/healthy", plain.LivenessProbe.HTTPGet.Path)
	assert.Equal(t, "/-/ready", plain.ReadinessProbe.HTTPGet.Path)
	assert.Equal(t, plain.Ports[0].Name, plain.LivenessProbe.HTTPGet.Port.StrVal)

	guarded := deployment(t, objects(t, existing+"web: {existingSecret: web}")).Spec.Template.Spec.Containers[0]
	assert.Contains(t, guarded.Args, "--web.config.file=/etc/balance_exporter_web/web.yml")
	for _, probe := range []*core.Probe{guarded.LivenessProbe, guarded.ReadinessProbe} {
		require.NotNil(t, probe.Exec)
		assert.Equal(t, []string{"/balance_exporter", "--healthcheck"}, probe.Exec.Command)
	}
}

// Namespaces that enforce the strictest of Kubernetes' Pod Security Standards admit the
// pods: https://kubernetes.io/docs/concepts/security/pod-security-standards/
func TestPodsAreRestricted(t *testing.T) {
	checks, err := security.NewEvaluator(security.DefaultChecks(), nil)
	require.NoError(t, err)
	restricted := securityapi.LevelVersion{Level: securityapi.LevelRestricted, Version: securityapi.LatestVersion()}
	for name, v := range map[string]map[string]any{"all": values(t, all), "accounts": values(t, account), "replicas": exampleValues(t, twoReplicas)} {
		files, err := render(t, "balance-exporter", v)
		require.NoError(t, err)
		for _, o := range decode(t, files) {
			if d, ok := o.(*apps.Deployment); ok {
				for _, result := range checks.EvaluatePod(restricted, &d.Spec.Template.ObjectMeta, &d.Spec.Template.Spec) {
					assert.True(t, result.Allowed, "%s: %s: %s %s", name, d.Name, result.ForbiddenReason, result.ForbiddenDetail)
				}
			}
		}
	}
}

func TestNetworkPolicy(t *testing.T) {
	ports := func(text string) []int32 {
		var ports []int32
		for _, p := range objects(t, text+"networkPolicy: {enabled: true}\n")["NetworkPolicy/balance-exporter"].(*networking.NetworkPolicy).Spec.Egress[0].Ports {
			ports = append(ports, p.Port.IntVal)
		}
		return ports
	}
	assert.Equal(t, []int32{53, 53, 443}, ports(existing))
	assert.Equal(t, []int32{53, 53, 443, 6380}, ports(redis))
	assert.Equal(t, []int32{53, 53, 443, 26379, 26380, 6379}, ports(existing+"state: {url: 'redis-sentinel://a:26379,b:26380/main/1'}\n"))
}

// A changed account changes the pod; a changed secret does not need to.
func TestRestartOnConfigChange(t *testing.T) {
	pod := func(text string) core.PodTemplateSpec { return deployment(t, objects(t, text)).Spec.Template }
	assert.Equal(t, pod(existing), pod(existing))
	assert.NotEqual(t, pod(existing), pod(strings.Replace(existing, "account_id: a", "account_id: b", 1)))
	off := "restartOnConfigChange: false\n"
	assert.Equal(t, pod(existing+off), pod(strings.Replace(existing, "account_id: a", "account_id: b", 1)+off))
}

// Rules and dashboard are those of the examples, also in a packaged chart: Helm follows
// the links.
func TestRulesAndDashboard(t *testing.T) {
	archive, err := chartutil.Save(load(t), t.TempDir())
	require.NoError(t, err)
	packed, err := loader.LoadFile(archive)
	require.NoError(t, err)
	for name, example := range map[string]string{"files/alerts.yml": "alerts.yml", "files/grafana-dashboard.json": "grafana-dashboard.json"} {
		want, err := os.ReadFile(filepath.Join(examples, example))
		require.NoError(t, err)
		i := slices.IndexFunc(packed.Files, func(f *chart.File) bool { return f.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		assert.Equal(t, string(want), string(packed.Files[i].Data), name)
	}

	o := objects(t, all)
	dashboard, err := os.ReadFile(filepath.Join(examples, "grafana-dashboard.json"))
	require.NoError(t, err)
	assert.JSONEq(t, string(dashboard), o["ConfigMap/balance-exporter-dashboard"].(*core.ConfigMap).Data["balance_exporter.json"])
	alerts, err := os.ReadFile(filepath.Join(examples, "alerts.yml"))
	require.NoError(t, err)
	var want monitoring.PrometheusRuleSpec
	require.NoError(t, sigsyaml.UnmarshalStrict(alerts, &want))
	assert.NotEmpty(t, want.Groups)
	assert.Equal(t, want, o["PrometheusRule/balance-exporter"].(*monitoring.PrometheusRule).Spec)
}

// The tag of the image is the one of examples/.env, wherever an example names it.
func TestImageTag(t *testing.T) {
	env, err := os.ReadFile(filepath.Join(examples, ".env"))
	require.NoError(t, err)
	m := regexp.MustCompile(`(?m)^BALANCE_EXPORTER_TAG=(\S+)$`).FindSubmatch(env)
	require.NotNil(t, m)
	c := load(t)
	assert.Equal(t, string(m[1]), c.Metadata.AppVersion, "appVersion of the chart and BALANCE_EXPORTER_TAG")
	assert.Equal(t, "v"+c.Metadata.Version, c.Metadata.AppVersion)
	assert.Equal(t, "ghcr.io/balance-exporter/balance_exporter:"+string(m[1]), deployment(t, objects(t, existing)).Spec.Template.Spec.Containers[0].Image)
}

// manifests lists the files of examples/kubernetes, and the values and templates that each
// is made of.
var manifests = []struct {
	file, comment     string
	values, templates []string
}{
	{
		"deployment.yaml", `# balance_exporter on Kubernetes. Enter your secrets and accounts, then run
#
#   kubectl apply -n monitoring -f deployment.yaml
#
# With the Prometheus operator, also apply servicemonitor.yaml and prometheusrule.yaml.
`, oneReplica, []string{"serviceaccount.yaml", "secret.yaml", "configmap.yaml", "persistentvolumeclaim.yaml", "deployment.yaml", "service.yaml"},
	},
	{"servicemonitor.yaml", "", oneReplica, []string{"servicemonitor.yaml"}},
	{"prometheusrule.yaml", "", oneReplica, []string{"prometheusrule.yaml"}},
	{
		"ha/replicas.yaml", `# Two replicas of balance_exporter with one Valkey on Kubernetes. Use it instead of
# ../deployment.yaml: enter your secrets and accounts, then run
#
#   kubectl apply -n monitoring -f replicas.yaml
#
# With the Prometheus operator, also apply ../servicemonitor.yaml, which scrapes both
# replicas, and ../prometheusrule.yaml. docs/high-availability.md explains the settings.
`, twoReplicas, []string{"serviceaccount.yaml", "secret.yaml", "configmap.yaml", "deployment.yaml", "service.yaml", "poddisruptionbudget.yaml", "extraobjects.yaml"},
	},
}

// The files of values, of which later ones have precedence.
var (
	oneReplica  = []string{"helm-values.yaml"}
	twoReplicas = []string{"helm-values.yaml", "helm-values-ha.yaml"}
)

// exampleValues merges files of values as Helm does.
func exampleValues(t *testing.T, files []string) map[string]any {
	t.Helper()
	merged := map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(examples, file))
		require.NoError(t, err)
		merged = chartutil.MergeTables(values(t, string(text)), merged)
	}
	return merged
}

// Labels that only Helm needs.
var helmOnly = regexp.MustCompile(`(?m)^ *(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

func TestExamples(t *testing.T) {
	used := map[string]bool{}
	for _, m := range manifests {
		files, err := render(t, "balance-exporter", exampleValues(t, m.values))
		require.NoError(t, err)
		want := "# Rendered from charts/balance-exporter with examples/" + strings.Join(m.values, " and examples/") + ".\n" + m.comment
		for _, template := range m.templates {
			require.Contains(t, files, template)
			used[strings.Join(m.values, " ")+" "+template] = true
			want += "---\n" + strings.TrimSpace(helmOnly.ReplaceAllString(files[template], "")) + "\n"
		}
		file := filepath.Join(examples, "kubernetes", m.file)
		if *update {
			require.NoError(t, os.WriteFile(file, []byte(want), 0o644))
		}
		got, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, want, string(got), "run: cd e2e/chart && go test . -run TestExamples -update")
	}

	alone, err := render(t, "balance-exporter", exampleValues(t, oneReplica))
	require.NoError(t, err)
	replicas, err := render(t, "balance-exporter", exampleValues(t, twoReplicas))
	require.NoError(t, err)
	for name, text := range alone {
		assert.True(t, used["helm-values.yaml "+name] || name == "NOTES.txt", "%s is in no example", name)
		if name == "servicemonitor.yaml" || name == "prometheusrule.yaml" {
			assert.Equal(t, text, replicas[name], "the replicas use the file of the other example")
			delete(replicas, name)
		}
	}
	for name := range replicas {
		assert.True(t, used["helm-values.yaml helm-values-ha.yaml "+name] || name == "NOTES.txt", "%s is in no example", name)
	}
	var files []string
	require.NoError(t, filepath.WalkDir(filepath.Join(examples, "kubernetes"), func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, file)
		}
		return err
	}))
	assert.Len(t, files, len(manifests), "a file in examples/kubernetes is not rendered from the chart")
}

// The replicas find Valkey: Service, port and password are those of the state's flags.
func TestExampleReplicas(t *testing.T) {
	files, err := render(t, "balance-exporter", exampleValues(t, twoReplicas))
	require.NoError(t, err)
	o := decode(t, files)
	d, valkey := o["Deployment/balance-exporter"].(*apps.Deployment), o["Deployment/balance-exporter-valkey"].(*apps.Deployment)
	service := o["Service/balance-exporter-valkey"].(*core.Service)
	assert.Contains(t, d.Spec.Template.Spec.Containers[0].Args, fmt.Sprintf("--state.url=redis://%s:%d", service.Name, service.Spec.Ports[0].Port))
	password := func(d *apps.Deployment, volume string) core.KeyToPath {
		for _, v := range d.Spec.Template.Spec.Volumes {
			if v.Name == volume {
				assert.Contains(t, o["Secret/"+v.Secret.SecretName].(*core.Secret).StringData, v.Secret.Items[0].Key)
				return v.Secret.Items[0]
			}
		}
		t.Errorf("no volume %s", volume)
		return core.KeyToPath{}
	}
	assert.Equal(t, password(d, "state-password"), password(valkey, "password"))
}
