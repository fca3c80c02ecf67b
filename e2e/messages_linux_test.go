package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The mistakes that users make most, made with the binary: one line says what, where, and
// what to do. DIR is the folder of the files.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const account = "accounts:\n  - name: messaging\n    provider: 8x8\n" +
		"    account_id: 0f0e0d0c-0000-4000-8000-000000000001\n    api_key: key-of-a-test\n"
	good := account + "    balance: {low_threshold: 500}\n"
	check := []string{"--config.check", "--config.file=balance_exporter.yml"}
	dir := t.TempDir()
	for _, c := range []struct {
		name   string
		config string // balance_exporter.yml
		args   []string
		env    string
		want   string // the only line, or the last one if it is a warning
	}{
		{"no configuration", "", []string{"--config.file=none.yml"}, "",
			"--config.file none.yml: the file does not exist; create it or correct the path, or try --demo, which needs none"},
		{"an unreadable configuration", good, []string{"--config.file=unreadable.yml"}, "",
			"--config.file unreadable.yml: permission denied; let the user that runs the exporter read the file"},
		{"a directory as configuration", good, []string{"--config.file=locked"}, "",
			"--config.file locked: is a directory; name a YAML file with accounts"},
		{"a comma in a number", account + "    balance:\n      low_threshold: 1,500\n", check, "",
			`balance_exporter.yml:7: accounts[0].balance.low_threshold: expected a number, got the text "1,500"; write only digits and a decimal point, such as 1500 or 0.5`},
		{"a comma in a number between braces", account + "    balance: {low_threshold: 1,500}\n", check, "",
			"balance_exporter.yml:6: accounts[0].balance.500: unknown key; between {} a comma ends a value: write numbers without it, such as 1500 or 0.5"},
		{"too little indentation", account + "    balance:\n    low_threshold: 500\n", check, "",
			"balance_exporter.yml:7: accounts[0].low_threshold: unknown key; it belongs below balance: indent it more than balance"},
		{"a tab", "accounts:\n\t- name: messaging\n", check, "",
			"balance_exporter.yml:2: not valid YAML: found character that cannot start any token; indent the line with spaces instead of tabs"},
		{"one name twice", good + "  - {name: messaging, provider: 8x8, account_id: 0f0e0d0c-0000-4000-8000-000000000002, api_key: key}\n", check, "",
			`balance_exporter.yml:7: accounts[1].name: "messaging" is already the name of accounts[0] (line 2); give each account of a provider its own`},
		{"one account id twice", good + "  - {name: other, provider: 8x8, account_id: 0f0e0d0c-0000-4000-8000-000000000001, api_key: key-of-a-test, balance: {low_threshold: 5}}\n", check, "",
			"warning: balance_exporter.yml:7: accounts[1]: is the same account at the provider as messaging: both spend one quota, which their rate_limit does not know; remove one of them"},
		{"a path in base_url", good + "    base_url: https://sms.8x8.com/api/v1\n", check, "",
			"warning: balance_exporter.yml:7: accounts[0].base_url: the path /api/v1 comes before the path of every request; remove it unless a gateway needs it"},
		{"a region that does not exist", good + "    base_url: https://sms.eu.8x8.com\n", check, "",
			"warning: balance_exporter.yml:7: accounts[0].base_url: sms.eu.8x8.com is no known region of 8x8; write one of sms.8x8.com, sms.us.8x8.com, sms.8x8.uk, sms.8x8.id"},
		{"no threshold", account, check, "",
			"warning: balance_exporter.yml:2: accounts[0].balance: has no low_threshold: no alert fires when the balance is low; set one"},
		{"a bad row of a CSV file", "accounts:\n  - {name: fleet, provider: flolive, token: token-of-a-test, subscribers: {file: subscribers.csv}}\n", check, "",
			"warning: balance_exporter.yml:2: accounts[0].subscribers.file: subscribers.csv:4: the line is skipped: type must be one of iccid, imsi, msisdn, imei"},
		{"a password that is no bcrypt hash", good, append([]string{"--web.config.file=web.yml"}, check...), "",
			"--web.config.file web.yml:2: basic_auth_users.ops: the password is not a bcrypt hash; create one with `htpasswd -nB ops`"},
		{"an unknown flag", good, []string{"--config.chek"}, "",
			"unknown long flag '--config.chek'; did you mean --config.check?"},
		{"a variable that is no truth value", good, nil, "BALANCE_EXPORTER_DEMO=yes",
			"BALANCE_EXPORTER_DEMO=yes, which sets --demo: must be true or false; correct or unset it"},
		{"a state file without permission", good, []string{"--state.url=sqlite:locked/state.db"}, "",
			"--state.url: state file DIR/locked/state.db: open DIR/locked/state.db: permission denied: give a path in an existing directory, with permission to write the file and the directory"},
		{"a directory as state file", good, []string{"--state.url=sqlite:."}, "",
			"--state.url: state file DIR: not a regular file: give a path in an existing directory, with permission to write the file and the directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			writeFile(t, dir, "balance_exporter.yml", c.config)
			cmd := exec.Command(forAnyUser(t, dir), c.args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), c.env)
			if os.Getuid() == 0 { // root may read everything
				const unprivileged = 65534
				require.NoError(t, os.Chown(filepath.Join(dir, "balance_exporter.yml"), unprivileged, unprivileged))
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
			}
			out, err := cmd.CombinedOutput()
			got := strings.ReplaceAll(string(out), dir, "DIR")
			if strings.HasPrefix(c.want, "warning: ") {
				assert.NoError(t, err)
				assert.Equal(t, 1, strings.Count(got, "warning: "), got)
				assert.True(t, strings.HasSuffix(got, "\n"+c.want+"\n"), got)
				return
			}
			assert.Error(t, err)
			assert.Equal(t, "balance_exporter: "+c.want+"\n", got)
		})
	}
}

// forAnyUser fills dir with the binary and the files of TestMistakes, once, and returns
// the path of the binary. Another user may neither read nor enter what is locked.
func forAnyUser(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "balance_exporter")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	binary, err := os.ReadFile(built["balance_exporter"])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, binary, 0o755))
	for parent := dir; parent != os.TempDir() && parent != "/"; parent = filepath.Dir(parent) {
		require.NoError(t, os.Chmod(parent, 0o755))
	}
	mode := os.FileMode(0)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "unreadable.yml"), nil, mode))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "locked"), mode))
	for name, text := range map[string]string{
		"web.yml":         "basic_auth_users:\n  ops: $2y$10$abc\n",
		"subscribers.csv": "type,value,name,balance_ids\niccid,8944501234567890123,truck-1,offer\niccid,8944501234567890124,truck-2,offer\nicid,8944501234567890125,truck-3,offer\n",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	return path
}
