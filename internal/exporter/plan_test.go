package exporter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// check returns what --config.check writes.
func check(t *testing.T, configuration string) (plan, warnings string) {
	t.Helper()
	b := benchOf(t, configuration, nil)
	var stdout, stderr bytes.Buffer
	require.NoError(t, b.check(&stdout, &stderr))
	require.Empty(t, b.log.String())
	return stdout.String(), strings.ReplaceAll(stderr.String(), b.file, "FILE")
}

// The plan has a line for each source, and a total for each account.
func TestPlan(t *testing.T) {
	plan, warnings := check(t, `
accounts:
  - name: messaging
    provider: 8x8
    account_id: `+accountOne+`
    api_key: key-one-1234
    balance: {low_threshold: 500}
    prices: {countries: [SG, US], networks: [{mcc: "525", mnc: "01"}]}
  - name: fleet
    provider: flolive
    username: api
    password: password-of-fleet
    subscribers:
      list:
        - {type: iccid, value: "8944501234567890123", balance_ids: [offer]}
        - {type: iccid, value: "8944501234567890124"}
      customer_id: customer
`)
	require.Equal(t, `PROVIDER  ACCOUNT    SOURCE       SOURCES                         INTERVAL  REQUESTS/H  LIMIT/H
8x8       messaging  balance      1                               1m        60.0        
8x8       messaging  prices       1                               1h        3.0         
8x8       messaging  total                                                  63.0        3600
flolive   fleet      subscribers  2 and those that listing finds  15m       8.0         
flolive   fleet      total                                                  8.0         7200
Replicas: one. Each further process has a state and a quota of its own; the limits have room for the demand of 57. With --state.url=redis://... any number has one quota.
`, plan)
	require.Empty(t, warnings)
}

func TestPlanOfReplicas(t *testing.T) {
	b := benchOf(t, `
accounts:
  - name: messaging
    provider: 8x8
    account_id: `+accountOne+`
    api_key: key-one-1234
    balance: {low_threshold: 500}
    prices: {enabled: false}
`, nil)
	b.opts.StateURL = "redis://redis.example.com:6379"
	var stdout, stderr bytes.Buffer
	require.NoError(t, b.check(&stdout, &stderr))
	require.Equal(t, `PROVIDER  ACCOUNT    SOURCE   SOURCES  INTERVAL  REQUESTS/H  LIMIT/H
8x8       messaging  balance  1        1m0s      60.0        
8x8       messaging  total                       60.0        3600
Replicas: any number with this --state.url has one quota. The table is the demand of all of them together.
`, stdout.String())
	require.Empty(t, stderr.String())
	b.opts.StateURL = "redis://:secret@redis.example.com:6379"
	require.EqualError(t, b.check(&stdout, &stderr), "--state.url: a password in the URL is visible in the process list; remove it and give --state.password-file")
}

// An account that demands exactly its limit has no warning, one that demands more has.
func TestDemandAboveTheLimit(t *testing.T) {
	const account = `
accounts:
  - name: one
    provider: 8x8
    account_id: ` + accountOne + `
    api_key: key-one-1234
    balance: {refresh_interval: 1m, low_threshold: 500}
    prices: {enabled: false}
    rate_limit: {requests: 1, per: 1m, burst: 1}
`
	_, warnings := check(t, account)
	require.Empty(t, warnings)
	more := strings.Replace(account, "refresh_interval: 1m", "refresh_interval: 30s", 1)
	const want = "8x8/one: the configuration demands 120 requests per hour and rate_limit allows 60: values become older than refresh_interval; lengthen it, or raise rate_limit if the provider allows it"
	_, warnings = check(t, more)
	require.Equal(t, "warning: "+want+"\n", warnings)

	b := benchOf(t, more, nil).open()
	require.Equal(t, 1, strings.Count(b.log.String(), `level=warn msg="`+want+`"`), b.log)
	require.NoError(t, b.reload())
	require.Equal(t, 1, strings.Count(b.log.String(), want), "the account has not changed")
	b.configure(strings.Replace(more, "refresh_interval: 30s", "refresh_interval: 30s, max_age: 1h", 1))
	require.NoError(t, b.reload())
	require.Equal(t, 2, strings.Count(b.log.String(), want), "it has changed")
}
