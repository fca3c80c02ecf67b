package eightxeightsim

// The example bodies of the documentation, to the letter. Serve one with
// [github.com/balance-exporter/balance_exporter/internal/simulate.Body] or
// Status.
const (
	// SampleBalance is the answer of the balance endpoint.
	SampleBalance = `{"balance":149309.7985931,"currency":"USD"}`
	// SampleNotPrepaid comes with 403.
	SampleNotPrepaid = `{"code":1201,"message":"Account not in prepaid mode","errorId":"c388daa9-980e-eb11-81f8-0433c2195dfb","timestamp":"2020-10-15T03:44:02.25Z"}`
	// SampleUnauthorized comes with 401.
	SampleUnauthorized = `{"code":1200,"message":"Request was not authenticated properly","errorId":"db9dced4-3534-4d86-9d18-6b448af0d621","timestamp":"2018-08-02T09:42:38.8988997+00:00"}`
	// SampleQuota comes with 429.
	SampleQuota = `{"code":429,"message":"Quota exceeded. Please try again in 1 second(s).","errorId":"c8a41b47-57bf-ea11-8273-00155d466a31","timestamp":"2020-07-06T07:07:00.30Z"}`
	// SampleTLSVersion comes with 426.
	SampleTLSVersion = `{"code":1014,"message":"TLS 1.3+ is required for Singapore-bound messages. Detected: TLSv1.2","errorId":"b4478860-b76c-e811-814e-022a35cc1c71","timestamp":"2018-08-04T09:25:40.9235752+00:00"}`
	// SampleInternal comes with 500.
	SampleInternal = `{"code":2000,"message":"Internal server error","errorId":"db9dced4-3534-4d86-9d18-6b448af0d621","timestamp":"2018-07-02T09:42:38.8988997+00:00"}`

	// SamplePricesExample is a price list in the form of the examples.
	SamplePricesExample = `{"subAccounts":[{"subAccountId":"example","outbound":{"countries":[{"alpha2Code":"SG","countryName":"Singapore","dialingPrefix":"+65","operators":[{"operatorName":"SingTel","operatorId":525001,"hni":[{"mcc":"525","mnc":"01"},{"mcc":"525","mnc":"02"},{"mcc":"525","mnc":"07"}],"price":{"amount":0.0520648,"currency":"SGD"}}]},{"alpha2Code":"US","countryName":"United States","dialingPrefix":"+1","operators":[{"operatorName":"Western Wireless","operatorId":310012,"hni":[{"mcc":"310","mnc":"03"},{"mcc":"310","mnc":"12"}],"price":{"amount":0.0161153,"currency":"SGD"}}]}]}}]}`
	// SamplePricesSchema is a price list in the form of the schema.
	SamplePricesSchema = `{"subAccounts":[{"subAccountId":"example","outbound":[{"countries":[{"alpha2Code":"SG","countryName":"Singapore","dialingPrefix":"+65","operators":[{"operatorName":"MobileOne","operatorId":525003,"hni":[{"mcc":"525","mnc":"03"}],"price":{"amount":0.0421477,"currency":"SGD"}}]}]}],"inbound":[{"alpha2Code":"SG","countryName":"Singapore","dialingPrefix":"+65","numberTypes":[{"type":"tollfree","defaultPrice":{"amount":0.01,"currency":"SGD"}}]}]}]}`
	// SamplePricesInbound is a price list without outbound prices.
	SamplePricesInbound = `{"subAccounts":[{"subAccountId":"example","inbound":{"countries":[{"alpha2Code":"SG","countryName":"Singapore","dialingPrefix":"+65","numberTypes":[{"type":"tollFree","defaultPrice":{"amount":0.0100000,"currency":"SGD"}},{"type":"shortCodeP2P","defaultPrice":{"amount":0.1230000,"currency":"SGD"}}]}]}}]}`
)
