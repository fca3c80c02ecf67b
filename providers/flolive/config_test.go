package flolive_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/config"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
)

func TestDefaults(t *testing.T) {
	account, file := parse(t, t.TempDir(), user, password, oneTruck)
	configured, err := flolive.Provider.Configure(account.Section)
	require.NoError(t, err)
	require.Empty(t, file.Warnings)
	require.Equal(t, []providers.Part{{
		Kind: providers.KindSubscribers, Interval: 15 * time.Minute, MaxAge: 24 * time.Hour, Fleet: true, Series: providers.SeriesAll,
	}}, configured.Parts)
	require.Equal(t, "user api@example.com", configured.Identity)
	require.Len(t, configured.Secrets, 1)
	require.Equal(t, "https://floportal.flolive.net", account.BaseURL.String())
	require.Equal(t, flolive.Provider.RateLimit, account.RateLimit)

	sources, err := configured.Open(providers.Env{})
	require.NoError(t, err)
	require.Len(t, sources, 1)
	description := sources[0].Describe()
	require.NotNil(t, description.Restore)
	description.Key, description.Restore = "", nil
	require.Equal(t, providers.Description{Name: "truck-12", Kind: providers.KindSubscribers, Interval: 15 * time.Minute, Requests: 2}, description)
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "token"), []byte("the-token\n"), 0o600))
	configured := configure(t, dir, "token_file: token", "auth: {header: X-Token, prefix: '', token_lifetime: 1h}",
		"subscribers: {refresh_interval: 1s, max_age: 1s, customer_id: c, series: low, low_thresholds: {USD: 2, MB: 0.5}}")
	require.Equal(t, []providers.Part{{
		Kind: providers.KindSubscribers, Interval: time.Second, MaxAge: time.Second, Fleet: true,
		Series: providers.SeriesLow, LowThresholds: map[string]float64{"USD": 2, "MB": 0.5},
	}}, configured.Parts)
	require.Equal(t, "token", configured.Identity)
	token, err := configured.Secrets[0].Get()
	require.NoError(t, err)
	require.Equal(t, "the-token", token)
}

// utf16File returns text in UTF-16.
func utf16File(order binary.AppendByteOrder, text string) (file []byte) {
	for _, unit := range utf16.Encode([]rune(text)) {
		file = order.AppendUint16(file, unit)
	}
	return file
}

func TestFaultySettings(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "no-header.csv"), []byte("iccid,8944501234567890123,truck-12,\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "column-twice.csv"), []byte("type,type,value\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "one-column.csv"), []byte("value\n1\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "one.csv"), []byte("type,value\nimsi,1\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "quote.csv"), []byte("\"type,value\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "empty.csv"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "long.csv"), []byte("type,value\nimsi,1\nimsi,"+strings.Repeat("2", 64<<10)+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large.csv"), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, "large.csv"), 2<<30+1))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "semicolons.csv"), []byte("\ufefftype;value;name\r\niccid;8944501234567890123;a\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "excel.csv"), []byte("sep=;\r\ntype;value\r\niccid;8944501234567890123\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tabs.csv"), []byte("type\tvalue\niccid\t8944501234567890123\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "below-commas.csv"), []byte("type,value\n\n\"iccid\";\"8944501234567890123\"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "utf16le.csv"), utf16File(binary.LittleEndian, "\ufefftype,value\r\niccid,8944501234567890123\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "utf16be.csv"), utf16File(binary.BigEndian, "\ufefftype,value\r\niccid,8944501234567890123\r\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "utf16.csv"), utf16File(binary.BigEndian, "type,value\niccid,8944501234567890123\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latin1.csv"), []byte("type,value,pr\xe9nom\niccid,8944501234567890123,a\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all-bad.csv"), []byte("type,value,name\niccid,truck-1,8944501234567890123\neid,1,a\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all-latin1.csv"), []byte("type,value,name\niccid,1,caf\xe9\n"), 0o600))
	list := func(items ...string) string { return "subscribers: {list: [{" + strings.Join(items, "}, {") + "}]}" }
	const first = "type: imsi, value: 1, name: a"
	const header = "the first line must be the header type,value,name,balance_ids"
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"no credentials":               {[]string{oneTruck}, "2: accounts[0]: there are no credentials; set username with password or password_file, or token or token_file"},
		"no user":                      {[]string{password, oneTruck}, "2: accounts[0].username: is required with a password: the name of a floLIVE user of type Public API"},
		"no password":                  {[]string{user, oneTruck}, "2: accounts[0].password: is required with a username: set password or password_file"},
		"user and token":               {[]string{user, "token: x", oneTruck}, "4: accounts[0].username: a token is set too; remove one of them"},
		"password and token":           {[]string{password, "token: x", oneTruck}, "4: accounts[0].password: a token is set too; remove one of them"},
		"header":                       {[]string{user, password, "auth: {header: 'a b'}", oneTruck}, "6: accounts[0].auth.header: must be the name of a request header, such as Authorization"},
		"prefix":                       {[]string{user, password, `auth: {prefix: "a\n"}`, oneTruck}, "6: accounts[0].auth.prefix: must be one line of ASCII characters"},
		"token lifetime":               {[]string{user, password, "auth: {token_lifetime: 999ms}", oneTruck}, "6: accounts[0].auth.token_lifetime: must be at least 1s"},
		"unknown series":               {[]string{user, password, "subscribers: {customer_id: c, series: some}"}, `6: accounts[0].subscribers.series: "some" must be all, low or none`},
		"low without thresholds":       {[]string{user, password, "subscribers: {customer_id: c, series: low}"}, "6: accounts[0].subscribers.series: low needs low_thresholds, such as low_thresholds: {USD: 2, MB: 50}; add them, or write none"},
		"threshold of a small unit":    {[]string{user, password, "subscribers: {customer_id: c, low_thresholds: {usd: 2}}"}, `6: accounts[0].subscribers.low_thresholds: "usd" must be a currency or a unit in capitals, such as USD or MB`},
		"unknown key":                  {[]string{user, password, "subscribers: {customer_id: c, csv: a}"}, "6: accounts[0].subscribers.csv: unknown key; known here: enabled, refresh_interval, max_age, series, low_thresholds, list, file, customer_id"},
		"nothing on":                   {[]string{user, password, "subscribers: {enabled: false}"}, "6: accounts[0].subscribers.enabled: subscribers are turned off, which leaves nothing to read"},
		"no subscribers":               {[]string{user, password}, "2: accounts[0].subscribers: there are no subscribers; set at least one of list, file and customer_id"},
		"no subscribers in the list":   {[]string{user, password, "subscribers: {list: []}"}, "6: accounts[0].subscribers: there are no subscribers; set at least one of list, file and customer_id"},
		"quick":                        {[]string{user, password, "subscribers: {refresh_interval: 0s, customer_id: a}"}, "6: accounts[0].subscribers.refresh_interval: must be at least 1s"},
		"short-lived":                  {[]string{user, password, "subscribers: {max_age: 14m, customer_id: a}"}, "6: accounts[0].subscribers.max_age: 14m is shorter than the refresh_interval of 15m; a value would end before the next one arrives"},
		"customer":                     {[]string{user, password, "subscribers: {customer_id: ..}"}, "6: accounts[0].subscribers.customer_id: must be one word of at most 200 bytes"},
		"no type":                      {[]string{user, password, list("value: 1")}, "6: accounts[0].subscribers.list[0].type: must be one of iccid, imsi, msisdn, imei"},
		"unknown type":                 {[]string{user, password, list(first, "type: eid, value: 2")}, "6: accounts[0].subscribers.list[1].type: must be one of iccid, imsi, msisdn, imei"},
		"no value":                     {[]string{user, password, list("type: imsi")}, "6: accounts[0].subscribers.list[0].value: is missing: the identifier of the subscriber"},
		"value of something else":      {[]string{user, password, list("type: imsi, value: a/b")}, "6: accounts[0].subscribers.list[0].value: must be the digits of an identifier, at most 64"},
		"long value":                   {[]string{user, password, list("type: imsi, value: '" + strings.Repeat("1", 65) + "'")}, "6: accounts[0].subscribers.list[0].value: must be the digits of an identifier, at most 64"},
		"name of two lines":            {[]string{user, password, list(`type: imsi, value: 1, name: "a\nb"`)}, "6: accounts[0].subscribers.list[0].name: must be one line of text of at most 256 bytes, without spaces around it"},
		"long name":                    {[]string{user, password, list("type: imsi, value: 1, name: " + strings.Repeat("a", 257))}, "6: accounts[0].subscribers.list[0].name: must be one line of text of at most 256 bytes, without spaces around it"},
		"empty balance id":             {[]string{user, password, list("type: imsi, value: 1, balance_ids: [a, '']")}, "6: accounts[0].subscribers.list[0].balance_ids[1]: must not be empty"},
		"balance ids as in CSV":        {[]string{user, password, list("type: imsi, value: 1, balance_ids: [a b]")}, "6: accounts[0].subscribers.list[0].balance_ids[0]: must be one word of at most 200 bytes"},
		"balance id twice":             {[]string{user, password, list("type: imsi, value: 1, balance_ids: [a, a]")}, "6: accounts[0].subscribers.list[0].balance_ids[1]: is listed twice"},
		"name twice":                   {[]string{user, password, list(first, "type: imsi, value: 2, name: a")}, "6: accounts[0].subscribers.list[1]: subscribers.list[0] has the same name; give each subscriber of an account its own"},
		"identifier twice":             {[]string{user, password, list(first, "type: imei, value: 1")}, "6: accounts[0].subscribers.list[1]: subscribers.list[0] has the same identifier; give each subscriber of an account its own"},
		"name of another's identifier": {[]string{user, password, list("type: imsi, value: 1", "type: imsi, value: 2, name: '1'")}, "6: accounts[0].subscribers.list[1]: subscribers.list[0] has the same name; give each subscriber of an account its own"},
		"no file":                      {[]string{user, password, "subscribers: {file: gone.csv}"}, "6: accounts[0].subscribers.file: cannot read the subscribers: stat DIR/gone.csv: no such file or directory; create the file or correct the path"},
		"directory":                    {[]string{user, password, "subscribers: {file: .}"}, "6: accounts[0].subscribers.file: DIR is not a regular file; name a CSV file of subscribers"},
		"file without header":          {[]string{user, password, "subscribers: {file: no-header.csv}"}, "6: accounts[0].subscribers.file: DIR/no-header.csv:1: " + header + "; its column 1 is unknown or repeated"},
		"column twice":                 {[]string{user, password, "subscribers: {file: column-twice.csv}"}, "6: accounts[0].subscribers.file: DIR/column-twice.csv:1: " + header + "; its column 2 is unknown or repeated"},
		"column missing":               {[]string{user, password, "subscribers: {file: one-column.csv}"}, "6: accounts[0].subscribers.file: DIR/one-column.csv:1: " + header},
		"header with a quote":          {[]string{user, password, "subscribers: {file: quote.csv}"}, "6: accounts[0].subscribers.file: DIR/quote.csv:1: " + header},
		"device":                       {[]string{user, password, "subscribers: {file: /dev/zero}"}, "6: accounts[0].subscribers.file: /dev/zero is not a regular file; name a CSV file of subscribers"},
		"long line":                    {[]string{user, password, "subscribers: {file: long.csv}"}, "6: accounts[0].subscribers.file: DIR/long.csv:3: the line is longer than 64 KiB"},
		"large file":                   {[]string{user, password, "subscribers: {file: large.csv}"}, "6: accounts[0].subscribers.file: DIR/large.csv is larger than 2 GiB; split it over several accounts"},
		"semicolons":                   {[]string{user, password, "subscribers: {file: semicolons.csv}"}, "6: accounts[0].subscribers.file: DIR/semicolons.csv:1: the fields are separated by semicolons; separate them by commas"},
		"semicolons of a spreadsheet":  {[]string{user, password, "subscribers: {file: excel.csv}"}, "6: accounts[0].subscribers.file: DIR/excel.csv:1: the fields are separated by semicolons; separate them by commas"},
		"tabs":                         {[]string{user, password, "subscribers: {file: tabs.csv}"}, "6: accounts[0].subscribers.file: DIR/tabs.csv:1: the fields are separated by tabs; separate them by commas"},
		"semicolons below commas":      {[]string{user, password, "subscribers: {file: below-commas.csv}"}, "6: accounts[0].subscribers.file: DIR/below-commas.csv: no line can be used; line 3: the fields are separated by semicolons; separate them by commas"},
		"UTF-16, little-endian":        {[]string{user, password, "subscribers: {file: utf16le.csv}"}, "6: accounts[0].subscribers.file: DIR/utf16le.csv:1: the file is UTF-16 or has NUL bytes; save the file as UTF-8"},
		"UTF-16, big-endian":           {[]string{user, password, "subscribers: {file: utf16be.csv}"}, "6: accounts[0].subscribers.file: DIR/utf16be.csv:1: the file is UTF-16 or has NUL bytes; save the file as UTF-8"},
		"UTF-16 without a mark":        {[]string{user, password, "subscribers: {file: utf16.csv}"}, "6: accounts[0].subscribers.file: DIR/utf16.csv:1: the file is UTF-16 or has NUL bytes; save the file as UTF-8"},
		"header in Latin-1":            {[]string{user, password, "subscribers: {file: latin1.csv}"}, "6: accounts[0].subscribers.file: DIR/latin1.csv:1: not UTF-8; save the file as UTF-8"},
		"no good line":                 {[]string{user, password, "subscribers: {file: all-bad.csv}"}, "6: accounts[0].subscribers.file: DIR/all-bad.csv: no line can be used; line 2: value must be the digits of an identifier, at most 64"},
		"only lines in Latin-1":        {[]string{user, password, "subscribers: {file: all-latin1.csv}"}, "6: accounts[0].subscribers.file: DIR/all-latin1.csv: no line can be used; line 2: not UTF-8; save the file as UTF-8"},
		"all in the list":              {[]string{user, password, "subscribers: {file: one.csv, list: [{type: imei, value: 1}]}"}, "6: accounts[0].subscribers.file: DIR/one.csv: no line can be used; line 2: subscribers.list[0] has the same identifier"},
		"empty file":                   {[]string{user, password, "subscribers: {file: empty.csv}"}, "6: accounts[0].subscribers.file: DIR/empty.csv:1: " + header},
	} {
		t.Run(name, func(t *testing.T) {
			account, _ := parse(t, dir, tt.keys...)
			_, err := flolive.Provider.Configure(account.Section)
			require.EqualError(t, config.Join(err), "balance_exporter.yml:"+strings.ReplaceAll(tt.want, "DIR", dir))
		})
	}
}
