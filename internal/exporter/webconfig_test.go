package exporter

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/exporter-toolkit/web"
	"github.com/stretchr/testify/require"
)

const soundHash = "$2y$04$LRBVQBQBy4HbE6X0l5cfXeIKMUvDtXJ3t2ZrFhPUxy6q4vFMOkr3i"

func TestCheckWebConfig(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	require.EqualError(t, checkWebConfig(pipe), "--web.config.file: "+pipe+" is not a regular file; name a readable file")
	require.EqualError(t, checkWebConfig(dir), "--web.config.file: "+dir+" is not a regular file; name a readable file")
	missing := filepath.Join(dir, "missing.yml")
	require.EqualError(t, checkWebConfig(missing), "--web.config.file: stat "+missing+": no such file or directory; name a readable file")
	require.NoError(t, checkWebConfig(""))

	file := filepath.Join(dir, "web.yml")
	for text, want := range map[string]string{
		"": "",
		"basic_auth_users: {ops: " + soundHash + "}": "",
		"basic_auth_users:\n  zoe: plain\n  ops: " + soundHash + "\n  ada: plain\n": "--web.config.file FILE:2: basic_auth_users.zoe: the password is not a bcrypt hash; create one with `htpasswd -nB zoe`\n" +
			"--web.config.file FILE:4: basic_auth_users.ada: the password is not a bcrypt hash; create one with `htpasswd -nB ada`",
		"basic_auth_users:\n  ops: " + soundHash[:59] + "\n":       "--web.config.file FILE:2: basic_auth_users.ops: the password is not a bcrypt hash; create one with `htpasswd -nB ops`",
		"basic_auth_users:\n  ops: " + soundHash[:59] + "!" + "\n": "--web.config.file FILE:2: basic_auth_users.ops: the password is not a bcrypt hash; create one with `htpasswd -nB ops`",
		"unknown: 1": "--web.config.file FILE: yaml: unmarshal errors: line 1: field unknown not found in type web.Config",
		"tls_server_config: {cert_file: missing.pem, key_file: missing.pem}": "--web.config.file FILE: failed to read cert_file (DIR/missing.pem): open DIR/missing.pem: no such file or directory",
		"a: [": "--web.config.file FILE: yaml: line 1: did not find expected node content",
	} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		err := checkWebConfig(file)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.EqualError(t, err, strings.NewReplacer("FILE", file, "DIR", dir).Replace(want), text)
	}
}

// A reload reads the web configuration too.
func TestReloadChecksTheWebConfiguration(t *testing.T) {
	b := benchOf(t, twoAccounts, nil)
	file := filepath.Join(t.TempDir(), "web.yml")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	b.opts.Web = &web.FlagConfig{WebConfigFile: &file}
	b.open()
	require.NoError(t, b.reload())
	require.NoError(t, os.WriteFile(file, []byte("unknown: 1"), 0o600))
	require.ErrorContains(t, b.reload(), "field unknown not found")
	require.NoError(t, os.Remove(file))
	require.NoError(t, syscall.Mkfifo(file, 0o600))
	require.ErrorContains(t, b.reload(), "is not a regular file")
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, b.reload())
}
