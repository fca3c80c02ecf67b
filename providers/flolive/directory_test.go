package flolive_test

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/balance-exporter/balance_exporter/internal/simulate"
	"github.com/balance-exporter/balance_exporter/providers"
	"github.com/balance-exporter/balance_exporter/providers/flolive"
	"github.com/balance-exporter/balance_exporter/providers/flolive/flolivesim"
)

const fromFile = "subscribers: {file: subscribers.csv}"

// openFile opens an account with a file of subscribers.
func openFile(t *testing.T, text string, keys ...string) *world {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "subscribers.csv"), []byte(text), 0o600))
	if len(keys) == 0 {
		keys = []string{fromFile}
	}
	return openWorld(t, dir, flolivesim.Options{Subscribers: flolivesim.Fleet(10, 1)}, append([]string{user, password}, keys...)...)
}

// list returns the description of a source that finds other sources.
func list(t *testing.T, s providers.Source) providers.Description {
	t.Helper()
	require.True(t, s.Describe().Lists)
	return s.Describe()
}

func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openFile(t, "type,value,name,balance_ids\niccid,1,truck-1,a  b\nimsi,2,,\n")
		l := w.source(0)
		description := list(t, l)
		known := description.Known
		description.Known = nil
		require.Equal(t, providers.Description{Key: "file", Kind: providers.KindSubscribers, Interval: time.Minute, Lists: true}, description)
		require.Equal(t, 2, known.Len())
		require.Equal(t, 2, known.Source(0).Describe().Requests)
		require.Equal(t, 15*time.Minute, known.Source(0).Describe().Interval)
		same := openWorld(t, w.dir, flolivesim.Options{}, user, password,
			"subscribers: {list: [{type: iccid, value: 1, name: truck-1, balance_ids: [a, b]}, {type: imsi, value: 2}]}")
		require.Equal(t, keysOf(providers.List(same.sources)), keysOf(known), "the file is like the list")

		for name, tt := range map[string]struct {
			text    string
			changed bool
		}{
			"unchanged":       {"", false},
			"the same again":  {"type,value,name,balance_ids\niccid,1,truck-1,a  b\nimsi,2,,\n", false},
			"one comes":       {"type,value\nimsi,2\nimsi,3\n", true},
			"all go":          {"type,value\n", true},
			"a bad line":      {"type,value\nimsi,2\nimsi,three?\n", true},
			"columns swapped": {"value,type\n2,imsi\n", true},
		} {
			if tt.text != "" {
				w.write("subscribers.csv", tt.text)
			}
			reading, err := l.Fetch(t.Context())
			require.NoError(t, err, name)
			require.Equal(t, tt.changed, reading.Roster != nil, name)
			if tt.changed {
				want := openFile(t, tt.text)
				require.Equal(t, keysOf(list(t, want.source(0)).Known), keysOf(reading.Roster), name)
				w.write("subscribers.csv", "type,value,name,balance_ids\niccid,1,truck-1,a  b\nimsi,2,,\n")
				_, err = l.Fetch(t.Context())
				require.NoError(t, err)
			}
		}
		require.ElementsMatch(t, []string{
			"part of the subscriber file is not used fault " + filepath.Join(w.dir, "subscribers.csv") +
				":3: the line is skipped: value must be the digits of an identifier, at most 64",
			"a list of subscribers has shrunk by more than half list file before 2 after 0",
		}, w.warnings)
		require.Zero(t, w.requests.Len())
	})
}

func TestFileThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := openFile(t, "type,value\nimsi,1\n")
		path := filepath.Join(w.dir, "subscribers.csv")
		l := w.source(0)
		fails := func(want string) {
			t.Helper()
			reading, err := l.Fetch(t.Context())
			require.Empty(t, reading)
			require.Equal(t, providers.ReasonInternal, providers.AsError(err).Reason)
			require.EqualError(t, err, "internal: subscribers.file: "+want+"; its earlier subscribers stay")
		}
		w.write("subscribers.csv", "imsi,234500000000001\n")
		fails(path + ":1: the first line must be the header type,value,name,balance_ids; its column 1 is unknown or repeated")
		w.write("subscribers.csv", "type,value\neid,1\nimsi,one?\n")
		fails(path + ": no line can be used; line 2: type must be one of iccid, imsi, msisdn, imei")
		require.NoError(t, os.Remove(path))
		fails("stat " + path + ": no such file or directory")
		require.NoError(t, os.Mkdir(path, 0o700))
		fails(path + " is not a regular file; name a CSV file of subscribers")
		require.NoError(t, os.Remove(path))
		w.write("subscribers.csv", "type,value\nimsi,2\n")
		reading, err := l.Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, keysOf(reading.Roster), 1)
	})
}

// TestFileInWriting runs in real time, which is that of files.
func TestFileInWriting(t *testing.T) {
	w := openFile(t, "type,value\nimsi,1\nimsi,2\n")
	path := filepath.Join(w.dir, "subscribers.csv")
	w.write("subscribers.csv", "type,value\nimsi,3\nim")
	reading, err := w.source(0).Fetch(t.Context())
	require.NoError(t, err)
	require.Nil(t, reading.Roster, "half of a list is left alone")
	require.Empty(t, w.warnings)
	old := time.Now().Add(-3 * time.Second)
	require.NoError(t, os.Chtimes(path, old, old))
	reading, err = w.source(0).Fetch(t.Context())
	require.NoError(t, err)
	require.Len(t, keysOf(reading.Roster), 1)
}

func TestFileForms(t *testing.T) {
	const head = "type,value,name,balance_ids\nimei,5,first,\n"
	const empty = "type,value,name,balance_ids\n"
	many := empty + strings.Repeat("imsi,1,,\n", 30)
	skipped := func(line int, why string) string { return fmt.Sprintf(":%d: the line is skipped: %s", line, why) }
	var repeated []string
	for line := 3; line < 23; line++ {
		repeated = append(repeated, skipped(line, "line 2 has the same identifier"))
	}
	for name, tt := range map[string]struct {
		text string
		want int
		warn []string
	}{
		"empty list":               {empty, 0, nil},
		"header alone":             {"type,value", 0, nil},
		"no final line break":      {head + "imsi,1,,", 2, nil},
		"byte order mark, CR LF":   {"\ufefftype,value,name,balance_ids\r\nimsi,1,a,b c\r\n\r\nimei,2,,\r\n", 2, nil},
		"spaces and capitals":      {" Type , VALUE\n  IMSI , 1 \n", 1, nil},
		"optional columns missing": {"value,type\n1,imsi\n", 1, nil},
		"short lines":              {head + "imsi,1\n", 2, nil},
		"quotes":                   {head + `"imsi","1","truck ""12"", north","a b"` + "\n", 2, nil},
		"quote not closed":         {head + "imsi,1,\"a,\nimsi,2,,\n", 2, []string{skipped(3, `extraneous or missing " in quoted-field`)}},
		"quote inside":             {head + `imsi,1,a"b",` + "\n", 1, []string{skipped(3, `bare " in non-quoted-field`)}},
		"text after a quote":       {head + `imsi,1,"a"b,` + "\n", 1, []string{skipped(3, `extraneous or missing " in quoted-field`)}},
		"too many fields":          {head + "imsi,1,a,b,c\n", 1, []string{skipped(3, "it has 5 fields and the header has 4")}},
		"unknown type":             {head + "eid,1,,\n", 1, []string{skipped(3, "type must be one of iccid, imsi, msisdn, imei")}},
		"no value":                 {head + "imsi,,,\n", 1, []string{skipped(3, "value is missing: the identifier of the subscriber")}},
		"value with a path":        {head + "imsi,../1,,\n", 1, []string{skipped(3, "value must be the digits of an identifier, at most 64")}},
		"name with a bad byte":     {head + "imsi,1,caf\xe9,\n", 1, []string{skipped(3, "not UTF-8; save the file as UTF-8")}},
		"name with a control byte": {head + "imsi,1,a\x01b,\n", 1, []string{skipped(3, "name must be one line of text of at most 256 bytes, without spaces around it")}},
		"a line of semicolons":     {head + "imsi;1;a;\n", 1, []string{skipped(3, "the fields are separated by semicolons; separate them by commas")}},
		"a line of tabs":           {head + "imsi\t1\ta\t\n", 1, []string{skipped(3, "the fields are separated by tabs; separate them by commas")}},
		"semicolon in a name":      {head + "imsi,1,a;b,\n", 2, nil},
		"a NUL":                    {head + "imsi,\x001,,\n", 1, []string{skipped(3, "value must be the digits of an identifier, at most 64")}},
		"empty lines between": {empty + "\n\nimsi,1,a,\n\nimsi,1,,\nimsi,2,,\nimsi,3,a,\nimsi,2,,\n", 2, []string{
			skipped(6, "line 4 has the same identifier"), skipped(8, "line 4 has the same name"), skipped(9, "line 7 has the same identifier"),
		}},
		"balance id with a path":  {head + "imsi,1,,a ..\n", 1, []string{skipped(3, "balance_ids[1] must be one word of at most 200 bytes")}},
		"balance id twice":        {head + "imsi,1,,a b a\n", 1, []string{skipped(3, "balance_ids[2] is listed twice")}},
		"identifier twice":        {many, 1, append(repeated, ": 9 more lines are skipped")},
		"name twice":              {head + "imsi,1,a,\nimsi,2,a,\n", 2, []string{skipped(4, "line 3 has the same name")}},
		"name of an identifier":   {head + "imsi,1,,\nimsi,2,1,\n", 2, []string{skipped(4, "line 3 has the same name")}},
		"name its own identifier": {head + "imsi,1,1,\n", 2, nil},
		"in the list":             {head + "imei,77,,\nimsi,1,listed,\nimsi,2,,\n", 2, []string{skipped(3, "subscribers.list[0] has the same identifier"), skipped(4, "subscribers.list[0] has the same name")}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "subscribers.csv"), []byte(tt.text), 0o600))
			account, file := parse(t, dir, user, password, "subscribers: {file: subscribers.csv, list: [{type: imsi, value: 77, name: listed}]}")
			configured, err := flolive.Provider.Configure(account.Section)
			require.NoError(t, err)
			sources, err := configured.Open(providers.Env{})
			require.NoError(t, err)
			require.Equal(t, tt.want, list(t, sources[1]).Known.Len())
			var warnings []string
			for _, w := range tt.warn {
				warnings = append(warnings, "balance_exporter.yml:6: accounts[0].subscribers.file: "+filepath.Join(dir, "subscribers.csv")+w)
			}
			require.Equal(t, warnings, file.Warnings)
		})
	}
}

const (
	listingPath = "GET /customer/" + flolivesim.DefaultCustomerID + "/subscriber"
	cursorPath  = "POST /customer/" + flolivesim.DefaultCustomerID + "/subscriber-all"
	byCustomer  = "subscribers: {customer_id: " + flolivesim.DefaultCustomerID + "}"
)

// active returns the ICCIDs of the active subscribers.
func active(fleet flolivesim.Generated) []string {
	ids := []string{}
	for i := range fleet.Len() {
		if s := fleet.At(i, time.Now()); s.Status == "ACTIVE" {
			ids = append(ids, s.ICCID)
		}
	}
	return ids
}

func TestListing(t *testing.T) {
	for name, tt := range map[string]struct {
		n       int
		options flolivesim.Options
		pages   int
		chunks  int
	}{
		"one page":                 {300, flolivesim.Options{}, 1, 0},
		"none":                     {0, flolivesim.Options{}, 1, 0},
		"pages":                    {1200, flolivesim.Options{}, 3, 0},
		"smaller pages than asked": {1200, flolivesim.Options{MaxPageSize: 100}, 12, 0},
		"pages ignored":            {1200, flolivesim.Options{PageIgnored: true}, 2, 3},
		"just within pages":        {10_000, flolivesim.Options{}, 20, 0},
		"beyond pages":             {10_001, flolivesim.Options{}, 1, 21},
		"a new cursor each time":   {10_600, flolivesim.Options{RotatePitID: true}, 1, 22},
	} {
		bubble(t, name, func(t *testing.T) {
			fleet := flolivesim.Fleet(tt.n, 7)
			tt.options.Subscribers = fleet
			w := newWorld(t, tt.options, byCustomer)
			l := w.source(0)
			description := list(t, l)
			require.Empty(t, description.Known)
			require.Equal(t, 24*time.Hour, description.Interval)
			require.Equal(t, 1, description.Requests)
			reading, err := l.Fetch(t.Context())
			require.NoError(t, err)
			require.NotNil(t, reading.Roster)
			require.Empty(t, reading.Dropped)
			counts := map[string]int{}
			for _, path := range w.paths() {
				counts[path]++
			}
			require.Equal(t, tt.pages, counts[listingPath])
			require.Equal(t, tt.chunks, counts[cursorPath])
			want := active(fleet)
			require.Len(t, keysOf(reading.Roster), len(want))
			if tt.n <= 300 {
				require.Equal(t, want, subscribersOf(t, reading.Roster))
			}

			w.open(user, password, byCustomer)
			restored, err := w.source(0).Describe().Restore(reading.Kept)
			require.NoError(t, err)
			require.Equal(t, keysOf(reading.Roster), keysOf(restored))
			require.Equal(t, max(1, (len(want)+499)/500), w.source(0).Describe().Requests)
		})
	}
}

func TestListingCursor(t *testing.T) {
	start := func(t *testing.T) *world {
		return newWorld(t, flolivesim.Options{Subscribers: flolivesim.Fleet(10_400, 7)}, byCustomer)
	}
	late := func(d time.Duration) simulate.Fault { return simulate.Delay(d) }
	bubble(t, "that ends is begun again, once", func(t *testing.T) {
		w := start(t)
		w.sim.Fail(strings.Replace(cursorPath, "POST ", "/api/v2", 1), flolivesim.Fault{})
		n := 0
		w.faults.Add(simulate.Rule{Fault: simulate.Status(200, "application/json", `{"errorCode":"CUSTOMER_1006","errorMessage":"Failed","content":"","pageable":""}`, nil), Match: matchNth(&n, 7)})
		reading, err := w.source(0).Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, keysOf(reading.Roster), len(active(flolivesim.Fleet(10_400, 7))))
	})
	bubble(t, "that ends twice is an error", func(t *testing.T) {
		w := start(t)
		n := 0
		w.faults.Add(simulate.Rule{Fault: simulate.Status(500, "application/json", `{"errorCode":"CUSTOMER_1006","errorMessage":"Failed","content":"","pageable":""}`, nil), Match: matchNth(&n, 7, 9)})
		_, err := w.source(0).Fetch(t.Context())
		require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
		require.Equal(t, 9, n)
	})
	bubble(t, "outlives slow answers", func(t *testing.T) {
		w := start(t)
		w.faults.Set(late(29 * time.Second))
		_, err := w.source(0).Fetch(t.Context())
		require.NoError(t, err)
	})
	bubble(t, "that fails otherwise is not begun again", func(t *testing.T) {
		w := start(t)
		n := 0
		w.faults.Add(simulate.Rule{Fault: simulate.HTML(502), Match: matchNth(&n, 7)})
		_, err := w.source(0).Fetch(t.Context())
		require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
		require.Equal(t, 7, n)
	})
	for name, body := range map[string]string{
		"without an id":  `{"content":[{"iccid":"1","status":"ACTIVE"}],"totalRecordAmount":2}`,
		"without an end": `{"content":[{"iccid":"1","status":"ACTIVE"}],"pitId":"x"}`,
	} {
		bubble(t, name+" is an error", func(t *testing.T) {
			w := start(t)
			w.sim.Fail(string(flolivesim.KindCursor), flolivesim.Fault{Body: body})
			_, err := w.source(0).Fetch(t.Context())
			require.Equal(t, providers.ReasonBadResponse, providers.AsError(err).Reason)
		})
	}
}

func TestListingErrors(t *testing.T) {
	bubble(t, "unknown customer", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, "subscribers: {customer_id: another}")
		_, err := w.source(0).Fetch(t.Context())
		require.Equal(t, &providers.Error{
			Reason: providers.ReasonNotFound, Status: 404, AskAfter: 24 * time.Hour,
			Message: "listing the customer's subscribers: floLIVE does not find what the request asks for (HTTP status 404, code CUSTOMER_1002): \"Customer does not exist\"",
		}, err)
	})
	for name, at := range map[string]int{"first page": 2, "later page": 3} {
		bubble(t, "out of order, "+name, func(t *testing.T) {
			w := newWorld(t, flolivesim.Options{Subscribers: flolivesim.Fleet(900, 1)}, byCustomer)
			n := 0
			w.faults.Add(simulate.Rule{Fault: simulate.HTML(503), Match: matchNth(&n, at)})
			_, err := w.source(0).Fetch(t.Context())
			require.Equal(t, providers.ReasonUnavailable, providers.AsError(err).Reason)
			require.Equal(t, at, n, "and no cursor is tried")
		})
	}
	bubble(t, "parameters refused", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{Subscribers: flolivesim.Fleet(30, 1)}, byCustomer)
		w.sim.Fail(string(flolivesim.KindListing), flolivesim.Fault{Code: flolivesim.CodeInvalid})
		reading, err := w.source(0).Fetch(t.Context())
		require.NoError(t, err)
		require.Len(t, keysOf(reading.Roster), len(active(flolivesim.Fleet(30, 1))))
	})
	bubble(t, "kept form", func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, byCustomer)
		for _, wrong := range []string{"\x00", "\x04\x05\x10", "\x00\x00", "\x00\x10../1", "\x00\x05\xa0", `{"imsi":["1"]}`} {
			_, err := w.source(0).Describe().Restore([]byte(wrong))
			require.Error(t, err, wrong)
		}
	})
}

// matchNth matches the requests with the given numbers, counted from 1 in n.
func matchNth(n *int, numbers ...int) func(*http.Request) bool {
	return func(*http.Request) bool {
		*n++
		return slices.Contains(numbers, *n)
	}
}

func TestRecordsOfAListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, flolivesim.Options{}, byCustomer)
		w.sim.Fail(string(flolivesim.KindListing), flolivesim.Fault{Body: `{"content":[
			{"iccid":"1","status":"ACTIVE"},
			{"iccid":"1","status":"ACTIVE"},
			{"iccid":2,"status":"Active"},
			{"iccid":"3","status":"SUSPEND"},{"iccid":"4","status":"INACTIVE"},{"iccid":"5","status":"TERMINATED"},{"iccid":"6"},{"iccid":"7","status":1},
			{"iccid":"../8","status":"ACTIVE","imsiMsisdnPairs":[{"imsi":"81","msisdn":"82"},{"imsi":"83","isLastActive":true}]},
			{"iccid":null,"status":"ACTIVE","imsiMsisdnPairs":[7,{"msisdn":"91"}],"imei":"92"},
			{"status":"ACTIVE","imsiMsisdnPairs":{},"imei":"101"},
			{"status":"ACTIVE"},
			7,null
		],"pageable":{"page":0,"size":500,"totalPages":1,"totalElements":13}}`})
		l := w.source(0)
		reading, err := l.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[providers.DropReason]int{providers.DropIncomplete: 5}, reading.Dropped)
		require.Equal(t, []string{"1", "2", "83", "91", "101"}, namesOf(reading.Roster))
		restored, err := list(t, l).Restore(reading.Kept)
		require.NoError(t, err)
		require.Equal(t, keysOf(reading.Roster), keysOf(restored))
		require.Len(t, reading.Kept, 16, "three bytes for each, four for one of three digits")
	})
}

// TestConfiguredComesFirst: some subscribers of a customer have a name by the list
// or the file; the listing leaves these out, by whichever identifier.
func TestConfiguredComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := flolivesim.Fleet(50, 3)
		ids := active(fleet)
		index, found := fleet.Find("iccid", ids[1])
		require.True(t, found)
		second := fleet.At(index, time.Now())

		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "subscribers.csv"), []byte("type,value,name\nimsi,"+second.Pairs[0].IMSI+",second\n"), 0o600))
		w := openWorld(t, dir, flolivesim.Options{Subscribers: fleet}, user, password, fmt.Sprintf(
			"subscribers: {list: [{type: iccid, value: %q, name: first}], file: subscribers.csv, customer_id: %s}", ids[0], flolivesim.DefaultCustomerID))
		file, listing := w.source(1), w.source(2)
		require.Equal(t, []string{"first"}, subscribersOf(t, providers.List(w.sources[:1])))
		require.Equal(t, []string{"second"}, subscribersOf(t, list(t, file).Known))
		reading, err := listing.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, ids[2:], subscribersOf(t, reading.Roster))
		roster, err := list(t, listing).Restore(reading.Kept)
		require.NoError(t, err)
		require.Equal(t, keysOf(reading.Roster), keysOf(roster))

		// From now on the file has the third one too, in the same form as the listing.
		w.write("subscribers.csv", "type,value,name\nimsi,"+second.Pairs[0].IMSI+",second\niccid,"+ids[2]+",\n")
		changed, err := file.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"second", ids[2]}, subscribersOf(t, changed.Roster))
		require.NotContains(t, keysOf(reading.Roster), changed.Roster.Source(1).Describe().Key, "one may go while the other stays")
		w.paths()
		left, err := reading.Roster.Source(0).Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, providers.Reading{AskAfter: 24 * time.Hour}, left)
		require.Empty(t, w.paths())
		reading, err = listing.Fetch(t.Context())
		require.NoError(t, err)
		require.Equal(t, ids[3:], subscribersOf(t, reading.Roster))
	})
}

// fleetFile writes a file of n subscribers and returns its directory.
func fleetFile(t testing.TB, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	file, err := os.Create(filepath.Join(dir, "subscribers.csv"))
	require.NoError(t, err)
	text := bufio.NewWriter(file)
	_, _ = text.WriteString("type,value,name,balance_ids\n")
	for i := range n {
		_, _ = fmt.Fprintf(text, "iccid,8944501%013d,t%07d,e7fcef24-5c03-41dd-9e33-%012x\n", i, i, i)
	}
	require.NoError(t, text.Flush())
	require.NoError(t, file.Close())
	return dir
}

// openFleet is the start of an account as far as the provider has to do with it.
func openFleet(t testing.TB, dir string) providers.Roster {
	t.Helper()
	sources, err := configure(t, dir, user, password, fromFile).Open(providers.Env{})
	require.NoError(t, err)
	return sources[0].Describe().Known
}

// heap returns the bytes that are in use.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// TestStartIsLinear: a fleet that is ten times as large takes about ten times as
// many allocations and as much memory to open, garbage included, and what stays is
// small. BenchmarkOpen measures the time, and larger fleets.
func TestStartIsLinear(t *testing.T) {
	took := func(n int) (allocations, bytes float64) {
		dir := fleetFile(t, n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		roster := openFleet(t, dir)
		runtime.ReadMemStats(&after)
		require.Equal(t, n, roster.Len())
		d := roster.Source(n - 1).Describe()
		require.Equal(t, fmt.Sprintf("t%07d", n-1), d.Name)
		require.Equal(t, roster.Key(n-1), d.Key)
		return float64(after.Mallocs - before.Mallocs), float64(after.TotalAlloc - before.TotalAlloc)
	}
	smallCount, smallBytes := took(2_000)
	largeCount, largeBytes := took(20_000)
	require.Less(t, largeCount, 12*smallCount)
	require.Less(t, largeBytes, 20*smallBytes, "tables double")

	dir := fleetFile(t, 20_000)
	before := heap()
	roster := openFleet(t, dir)
	require.Less(t, (heap()-before)/20_000, 60.0, "bytes per subscriber")
	runtime.KeepAlive(roster)
}

// BenchmarkOpen opens fleets from files: the time, and the memory that stays.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 1_000_000 && os.Getenv("BALANCE_EXPORTER_SLOW") == "" {
				b.Skip("set BALANCE_EXPORTER_SLOW=1: the file has 800 MB")
			}
			dir := fleetFile(b, n)
			before := heap()
			var roster providers.Roster
			b.ReportAllocs()
			for b.Loop() {
				roster = openFleet(b, dir)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/SIM")
			b.ReportMetric((heap()-before)/float64(n), "bytes/SIM")
			runtime.KeepAlive(roster)
		})
	}
}

// BenchmarkRoster makes a source, as the cache does before each fetch.
func BenchmarkRoster(b *testing.B) {
	const n = 100_000
	roster := openFleet(b, fleetFile(b, n))
	b.Run("key", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			roster.Key(i % n)
		}
	})
	b.Run("source", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			roster.Source(i % n)
		}
	})
}
