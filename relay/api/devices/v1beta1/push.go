package v1beta1

import "k8s.io/apimachinery/pkg/runtime"

// PushMethod says where the edge sends a property's values besides Kubernetes. Credentials come from a file on the gateway (docs/push.md).
type PushMethod struct {
	// HTTP posts each value.
	// +optional
	HTTP *PushMethodHTTP `json:"http,omitempty"`
	// MQTT publishes each value.
	// +optional
	MQTT *PushMethodMQTT `json:"mqtt,omitempty"`
	// OTEL exports each value as an OpenTelemetry metric.
	// +optional
	OTEL *PushMethodOTEL `json:"otel,omitempty"`
	// DBMethod writes each value to a database.
	// +optional
	DBMethod *DBMethod `json:"dbMethod,omitempty"`
	// AnomalyDetection is free-form configuration of an anomaly detection service.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	AnomalyDetection *runtime.RawExtension `json:"anomalyDetection,omitempty"`
}

// PushMethodHTTP is an HTTP server that takes values.
type PushMethodHTTP struct {
	// HostName with its scheme, for example http://127.0.0.1.
	// +optional
	HostName string `json:"hostName,omitempty"`
	// Port of the server.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port int64 `json:"port,omitempty"`
	// RequestPath of the server's resource.
	// +optional
	RequestPath string `json:"requestPath,omitempty"`
	// Timeout of one request, in milliseconds.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Timeout int64 `json:"timeout,omitempty"`
}

// PushMethodMQTT is an MQTT broker that takes values.
type PushMethodMQTT struct {
	// Address of the broker, for example tcp://127.0.0.1:1883.
	// +optional
	Address string `json:"address,omitempty"`
	// Topic to publish to.
	// +optional
	Topic string `json:"topic,omitempty"`
	// QoS 0, 1 or 2 (MQTT 3.1.1, section 4.3).
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2
	QoS int32 `json:"qos,omitempty"`
	// Retained asks the broker to keep the last value.
	// +optional
	Retained bool `json:"retained,omitempty"`
}

// PushMethodOTEL is an OpenTelemetry collector.
type PushMethodOTEL struct {
	// EndpointURL of the collector, for example https://localhost:4318/v1/metrics.
	// +optional
	EndpointURL string `json:"endpointURL,omitempty"`
}

// DBMethod names the database that takes values.
type DBMethod struct {
	// +optional
	Influxdb2 *DBMethodInfluxdb2 `json:"influxdb2,omitempty"`
	// +optional
	Redis *DBMethodRedis `json:"redis,omitempty"`
	// +optional
	TDEngine *DBMethodTDEngine `json:"TDEngine,omitempty"`
	// +optional
	Mysql *DBMethodMySQL `json:"mysql,omitempty"`
}

// DBMethodInfluxdb2 is an InfluxDB 2 bucket.
type DBMethodInfluxdb2 struct {
	// +optional
	Influxdb2ClientConfig *Influxdb2ClientConfig `json:"influxdb2ClientConfig,omitempty"`
	// +optional
	Influxdb2DataConfig *Influxdb2DataConfig `json:"influxdb2DataConfig,omitempty"`
}

// Influxdb2ClientConfig says how to reach an InfluxDB 2.
type Influxdb2ClientConfig struct {
	// +optional
	URL string `json:"url,omitempty"`
	// +optional
	Org string `json:"org,omitempty"`
	// +optional
	Bucket string `json:"bucket,omitempty"`
}

// Influxdb2DataConfig says how a value becomes a point.
type Influxdb2DataConfig struct {
	// +optional
	Measurement string `json:"measurement,omitempty"`
	// +optional
	Tag map[string]string `json:"tag,omitempty"`
	// +optional
	FieldKey string `json:"fieldKey,omitempty"`
}

// DBMethodRedis is a Redis server.
type DBMethodRedis struct {
	// +optional
	RedisClientConfig *RedisClientConfig `json:"redisClientConfig,omitempty"`
}

// RedisClientConfig says how to reach a Redis server.
type RedisClientConfig struct {
	// +optional
	Addr string `json:"addr,omitempty"`
	// +optional
	DB int `json:"db,omitempty"`
	// +optional
	Poolsize int `json:"poolsize,omitempty"`
	// +optional
	MinIdleConns int `json:"minIdleConns,omitempty"`
}

// DBMethodTDEngine is a TDengine server.
type DBMethodTDEngine struct {
	// +optional
	TDEngineClientConfig *TDEngineClientConfig `json:"TDEngineClientConfig,omitempty"`
}

// TDEngineClientConfig says how to reach a TDengine server.
type TDEngineClientConfig struct {
	// +optional
	Addr string `json:"addr,omitempty"`
	// +optional
	DBName string `json:"dbName,omitempty"`
}

// DBMethodMySQL is a MySQL server.
type DBMethodMySQL struct {
	// +optional
	MySQLClientConfig *MySQLClientConfig `json:"mysqlClientConfig,omitempty"`
}

// MySQLClientConfig says how to reach a MySQL server.
type MySQLClientConfig struct {
	// +optional
	Addr string `json:"addr,omitempty"`
	// +optional
	Database string `json:"database,omitempty"`
	// +optional
	UserName string `json:"userName,omitempty"`
}
