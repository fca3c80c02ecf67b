package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// eventually waits until check returns nil, for as long as the processes live.
func eventually(t *testing.T, atMost time.Duration, check func() error, processes ...*process) {
	t.Helper()
	pause := min(atMost/100, time.Second)
	var err error
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(pause) {
		if err = check(); err == nil {
			return
		}
		for _, p := range processes {
			require.NoError(t, p.ended())
		}
	}
	require.NoError(t, err, "after %v", atMost)
}

// answers returns a check that url answers 200.
func answers(client *http.Client, url string) func() error {
	return func() error {
		_, _, err := get(client, url, nil)
		return err
	}
}

// get returns the body of a 200.
func get(client *http.Client, url string, header http.Header) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(req.Header, header)
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return body, resp.Header, err
}

// exporter is a running balance_exporter.
type exporter struct {
	*process
	address string
}

func (e *exporter) url(path string) string { return "http://" + e.address + path }

// startExporter starts the exporter and waits until it is ready.
func startExporter(t *testing.T, args ...string) *exporter {
	t.Helper()
	e := &exporter{process: start(t, "balance_exporter", append(args, "--web.listen-address=127.0.0.1:0")...)}
	e.address = e.listens(t)
	eventually(t, 2*time.Minute, answers(http.DefaultClient, e.url("/-/ready")), e.process)
	return e
}

// startDemo starts the exporter with its own accounts and providers.
func startDemo(t *testing.T) *exporter {
	t.Helper()
	return startExporter(t, "--demo")
}

// unread is in the status of an exporter that has not tried to read a source.
var unread = regexp.MustCompile(`"state":"not_read_yet"|"pending":[1-9]`)

// readAll scrapes until every source has been tried: a scrape waits neither for a whole
// fleet nor, on a busy machine, for one answer. It returns the last scrape.
func (e *exporter) readAll(t *testing.T) []byte {
	t.Helper()
	var metrics []byte
	eventually(t, time.Minute, func() (err error) {
		if metrics, _, err = get(http.DefaultClient, e.url("/metrics"), nil); err != nil {
			return err
		}
		status, _, err := get(http.DefaultClient, e.url("/api/v1/status"), nil)
		if err == nil && unread.Match(status) {
			err = fmt.Errorf("not read: %s", status)
		}
		return err
	}, e.process)
	return metrics
}

// startConfigured starts the exporter with a configuration, and returns its file too.
func startConfigured(t *testing.T, configuration string) (*exporter, string) {
	t.Helper()
	file := writeFile(t, t.TempDir(), "balance_exporter.yml", configuration)
	return startExporter(t, "--config.file="+file), file
}

func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func readExample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, name))
	require.NoError(t, err)
	return string(text)
}

// replace replaces texts that must be there.
func replace(t *testing.T, text string, oldAndNew ...string) string {
	t.Helper()
	for pair := range slices.Chunk(oldAndNew, 2) {
		require.Contains(t, text, pair[0])
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	return text
}

// prometheus is a running Prometheus.
type prometheus struct {
	*process
	promapi.API
	t       *testing.T
	address string
	data    string
}

// prometheusConfig is a configuration and the rule files beside it, by name.
type prometheusConfig struct {
	main  string
	rules map[string]string
	data  string // folder of the data; empty for a new one
}

func startPrometheus(t *testing.T, c prometheusConfig) *prometheus {
	t.Helper()
	dir := t.TempDir()
	for name, text := range c.rules {
		writeFile(t, dir, name, text)
	}
	if c.data == "" {
		c.data = filepath.Join(dir, "data")
	}
	p := &prometheus{t: t, data: c.data}
	p.process = start(t, "prometheus",
		"--config.file="+writeFile(t, dir, "prometheus.yml", c.main),
		"--storage.tsdb.path="+c.data, "--web.listen-address=127.0.0.1:0")
	p.address = p.listens(t)
	eventually(t, time.Minute, answers(http.DefaultClient, "http://"+p.address+"/-/ready"), p.process)
	client, err := api.NewClient(api.Config{Address: "http://" + p.address})
	require.NoError(t, err)
	p.API = promapi.NewAPI(client)
	return p
}

// query evaluates an expression now.
func (p *prometheus) query(expr string) (model.Vector, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	value, warnings, infos, err := p.Query(ctx, expr, time.Now())
	if err == nil {
		err = remarks(warnings, infos)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, expr)
	}
	switch v := value.(type) {
	case model.Vector:
		return v, nil
	case *model.Scalar:
		return model.Vector{{Value: v.Value, Timestamp: v.Timestamp}}, nil
	}
	return nil, fmt.Errorf("%s: unexpected %T", expr, value)
}

// remarks are what Prometheus finds strange in a query, as an error.
func remarks(warnings promapi.Warnings, infos promapi.Infos) error {
	if len(warnings)+len(infos) == 0 {
		return nil
	}
	return fmt.Errorf("remarked: %q", append(slices.Clone([]string(warnings)), infos...))
}

// value returns the only value of an expression.
func (p *prometheus) value(expr string) (float64, error) {
	v, err := p.query(expr)
	if err != nil {
		return 0, err
	}
	if len(v) != 1 {
		return 0, fmt.Errorf("%d series, expected one: %s", len(v), expr)
	}
	return float64(v[0].Value), nil
}

// becomes waits until an expression has the given only value.
func (p *prometheus) becomes(atMost time.Duration, expr string, want float64) {
	p.t.Helper()
	eventually(p.t, atMost, func() error {
		got, err := p.value(expr)
		if err == nil && got != want {
			err = fmt.Errorf("%v, expected %v: %s", got, want, expr)
		}
		return err
	}, p.process)
}

// mustBe asserts the only value of an expression.
func (p *prometheus) mustBe(want float64, expr string) {
	p.t.Helper()
	got, err := p.value(expr)
	require.NoError(p.t, err)
	require.InDelta(p.t, want, got, 1e-9, expr)
}

// notification is what Alertmanager posts to a webhook.
type notification struct {
	Receiver string `json:"receiver"`
	Alerts   []struct {
		Status      string            `json:"status"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"alerts"`
}

// hook is a webhook that records its notifications.
type hook struct {
	server *httptest.Server
	mu     sync.Mutex
	got    []received
}

// received is one alert of one notification.
type received struct {
	at                  time.Time
	receiver, status    string
	labels, annotations map[string]string
}

func (a received) String() string {
	return fmt.Sprintf("%s %s: %s %v", a.at.Format(time.TimeOnly), a.receiver, a.status, a.labels)
}

func startHook(t *testing.T) *hook {
	h := &hook{}
	h.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n notification
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, a := range n.Alerts {
			h.got = append(h.got, received{time.Now(), n.Receiver, a.Status, a.Labels, a.Annotations})
		}
	}))
	t.Cleanup(h.server.Close)
	t.Cleanup(func() {
		if t.Failed() {
			for _, a := range h.all() {
				t.Log(a)
			}
		}
	})
	return h
}

func (h *hook) all() []received {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got)
}

// about returns the notifications of one alert of one account.
func (h *hook) about(alert, account string) []received {
	return slices.DeleteFunc(h.all(), func(a received) bool {
		return a.labels["alertname"] != alert || a.labels["account"] != account
	})
}

// statuses returns the states that an alert went through: repetitions are one.
func statuses(list []received) []string {
	var s []string
	for _, a := range list {
		s = append(s, a.status)
	}
	return slices.Compact(s)
}

// startAlertmanager starts Alertmanager with examples/alertmanager.yml, where every
// receiver delivers to h and waiting times are seconds. It returns its address.
func startAlertmanager(t *testing.T, h *hook) string {
	t.Helper()
	var config map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(readExample(t, "alertmanager.yml")), &config))
	for _, receiver := range config["receivers"].([]any) {
		receiver.(map[string]any)["webhook_configs"] = []any{map[string]any{"url": h.server.URL, "send_resolved": true}}
	}
	hasten(config["route"].(map[string]any))
	text, err := yaml.Marshal(config)
	require.NoError(t, err)

	dir := t.TempDir()
	p := start(t, "alertmanager",
		"--config.file="+writeFile(t, dir, "alertmanager.yml", string(text)), "--storage.path="+filepath.Join(dir, "data"),
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
	address := p.listens(t)
	eventually(t, 20*time.Second, answers(http.DefaultClient, "http://"+address+"/-/ready"), p)
	return address
}

func hasten(route map[string]any) {
	for _, name := range []string{"group_wait", "group_interval"} {
		if _, ok := route[name]; ok {
			route[name] = "2s"
		}
	}
	children, _ := route["routes"].([]any)
	for _, child := range children {
		hasten(child.(map[string]any))
	}
}

// ruleFile is examples/alerts.yml, as Prometheus reads it.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval,omitempty"`
	Rules    []rule `yaml:"rules"`
}

type rule struct {
	Record        string            `yaml:"record,omitempty"`
	Alert         string            `yaml:"alert,omitempty"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for,omitempty"`
	KeepFiringFor string            `yaml:"keep_firing_for,omitempty"`
	Labels        map[string]string `yaml:"labels,omitempty"`
	Annotations   map[string]string `yaml:"annotations,omitempty"`
}

func readRules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	dec := yaml.NewDecoder(strings.NewReader(readExample(t, "alerts.yml")))
	dec.KnownFields(true) // or something would be lost here
	require.NoError(t, dec.Decode(&f))
	require.NotEmpty(t, f.Groups)
	return f
}

func (f ruleFile) text(t *testing.T) string {
	t.Helper()
	text, err := yaml.Marshal(f)
	require.NoError(t, err)
	return string(text)
}

// every sets the interval of evaluation.
func (f ruleFile) every(interval string) {
	for i := range f.Groups {
		f.Groups[i].Interval = interval
	}
}

// alert returns the rule of an alert.
func (f ruleFile) alert(t *testing.T, name string) *rule {
	t.Helper()
	for i := range f.Groups {
		for j := range f.Groups[i].Rules {
			if r := &f.Groups[i].Rules[j]; r.Alert == name {
				return r
			}
		}
	}
	require.Fail(t, "no alert "+name)
	return nil
}
