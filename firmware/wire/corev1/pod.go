package corev1

//go:generate go run github.com/tinylib/msgp@v1.6.5 -io=false -tests=false

//msgp:limit arrays:4096 maps:65536

// Pod is a core/v1 Pod as it reaches the edge: without the status that the agent owns.
type Pod struct {
	Metadata ObjectMeta    `msg:"metadata"`
	Spec     PodSpec       `msg:"spec"`
	Status   *PodGateState `msg:"status,omitempty"`
}

// PodGateState is what reaches the edge of a pod's status: the conditions that others than the agent set and that the pod's
// readinessGates name. Only pods with gates have it.
type PodGateState struct {
	Conditions []GateCondition `msg:"conditions,omitempty"`
}

// GateCondition is one such condition, without its times and words.
type GateCondition struct {
	Status string `msg:"status"`
	Type   string `msg:"type"`
}

// PodReadinessGate names a condition that has to be True before a pod is ready.
type PodReadinessGate struct {
	ConditionType string `msg:"conditionType"`
}

// PodSpec is the part of a pod's spec that the agent acts on. Which other fields it tolerates and which it refuses is
// decided in package pods over the whole document, not here.
type PodSpec struct {
	ActiveDeadlineSeconds         *int64                 `msg:"activeDeadlineSeconds,omitempty"`
	Affinity                      *Affinity              `msg:"affinity,omitempty"`
	Containers                    []Container            `msg:"containers,omitempty"`
	DNSConfig                     *PodDNSConfig          `msg:"dnsConfig,omitempty"`
	DNSPolicy                     string                 `msg:"dnsPolicy,omitempty"`
	EnableServiceLinks            *bool                  `msg:"enableServiceLinks,omitempty"`
	EphemeralContainers           []Container            `msg:"ephemeralContainers,omitempty"`
	HostAliases                   []HostAlias            `msg:"hostAliases,omitempty"`
	HostIPC                       bool                   `msg:"hostIPC,omitempty"`
	HostNetwork                   bool                   `msg:"hostNetwork,omitempty"`
	HostPID                       bool                   `msg:"hostPID,omitempty"`
	HostUsers                     *bool                  `msg:"hostUsers,omitempty"`
	Hostname                      string                 `msg:"hostname,omitempty"`
	HostnameOverride              *string                `msg:"hostnameOverride,omitempty"`
	ImagePullSecrets              []LocalObjectReference `msg:"imagePullSecrets,omitempty"`
	InitContainers                []Container            `msg:"initContainers,omitempty"`
	NodeName                      string                 `msg:"nodeName,omitempty"`
	NodeSelector                  StringMap              `msg:"nodeSelector,omitzero"`
	Overhead                      ResourceList           `msg:"overhead,omitzero"`
	Priority                      *int32                 `msg:"priority,omitempty"`
	ReadinessGates                []PodReadinessGate     `msg:"readinessGates,omitempty"`
	Resources                     *ResourceRequirements  `msg:"resources,omitempty"` // of the pod as a whole
	RestartPolicy                 string                 `msg:"restartPolicy,omitempty"`
	RuntimeClassName              *string                `msg:"runtimeClassName,omitempty"`
	SecurityContext               *PodSecurityContext    `msg:"securityContext,omitempty"`
	ServiceAccountName            string                 `msg:"serviceAccountName,omitempty"`
	SetHostnameAsFQDN             *bool                  `msg:"setHostnameAsFQDN,omitempty"`
	ShareProcessNamespace         *bool                  `msg:"shareProcessNamespace,omitempty"`
	Subdomain                     string                 `msg:"subdomain,omitempty"`
	TerminationGracePeriodSeconds *int64                 `msg:"terminationGracePeriodSeconds,omitempty"`
	Tolerations                   []Toleration           `msg:"tolerations,omitempty"`
	Volumes                       []Volume               `msg:"volumes,omitempty"`
}

// PodDNSConfig adds to the resolver configuration that dnsPolicy chose.
type PodDNSConfig struct {
	Nameservers []string             `msg:"nameservers,omitempty"`
	Options     []PodDNSConfigOption `msg:"options,omitempty"`
	Searches    []string             `msg:"searches,omitempty"`
}

// PodDNSConfigOption is one resolver option, such as ndots:2.
type PodDNSConfigOption struct {
	Name  string  `msg:"name"`
	Value *string `msg:"value,omitempty"`
}

// HostAlias is an additional line of /etc/hosts.
type HostAlias struct {
	Hostnames []string `msg:"hostnames,omitempty"`
	IP        string   `msg:"ip"`
}

// PodSecurityContext holds what applies to all of a pod's containers.
type PodSecurityContext struct {
	AppArmorProfile          *AppArmorProfile `msg:"appArmorProfile,omitempty"`
	FSGroup                  *int64           `msg:"fsGroup,omitempty"`
	FSGroupChangePolicy      *string          `msg:"fsGroupChangePolicy,omitempty"`
	RunAsGroup               *int64           `msg:"runAsGroup,omitempty"`
	RunAsNonRoot             *bool            `msg:"runAsNonRoot,omitempty"`
	RunAsUser                *int64           `msg:"runAsUser,omitempty"`
	SELinuxOptions           *SELinuxOptions  `msg:"seLinuxOptions,omitempty"`
	SeccompProfile           *SeccompProfile  `msg:"seccompProfile,omitempty"`
	SupplementalGroups       []int64          `msg:"supplementalGroups,omitempty"`
	SupplementalGroupsPolicy string           `msg:"supplementalGroupsPolicy,omitempty"` // Merge or Strict
	Sysctls                  []Sysctl         `msg:"sysctls,omitempty"`
}

// Sysctl is one kernel parameter of the pod's namespaces.
type Sysctl struct {
	Name  string `msg:"name"`
	Value string `msg:"value"`
}

// SeccompProfile is RuntimeDefault, Unconfined or Localhost (then with a profile's path).
type SeccompProfile struct {
	LocalhostProfile *string `msg:"localhostProfile,omitempty"`
	Type             string  `msg:"type"`
}

// AppArmorProfile is RuntimeDefault, Unconfined or Localhost (then with the name of a profile that the kernel has).
type AppArmorProfile struct {
	LocalhostProfile *string `msg:"localhostProfile,omitempty"`
	Type             string  `msg:"type"`
}

// SELinuxOptions are the parts of an SELinux label; empty ones are the runtime's choice.
type SELinuxOptions struct {
	Level string `msg:"level,omitempty"`
	Role  string `msg:"role,omitempty"`
	Type  string `msg:"type,omitempty"`
	User  string `msg:"user,omitempty"`
}

// Container is one container, init container or ephemeral container.
type Container struct {
	Args                     []string             `msg:"args,omitempty"`
	Command                  []string             `msg:"command,omitempty"`
	Env                      []EnvVar             `msg:"env,omitempty"`
	EnvFrom                  []EnvFromSource      `msg:"envFrom,omitempty"`
	Image                    string               `msg:"image,omitempty"`
	ImagePullPolicy          string               `msg:"imagePullPolicy,omitempty"`
	Lifecycle                *Lifecycle           `msg:"lifecycle,omitempty"`
	LivenessProbe            *Probe               `msg:"livenessProbe,omitempty"`
	Name                     string               `msg:"name"`
	Ports                    []ContainerPort      `msg:"ports,omitempty"`
	ReadinessProbe           *Probe               `msg:"readinessProbe,omitempty"`
	ResizePolicy             []ResizePolicy       `msg:"resizePolicy,omitempty"`
	Resources                ResourceRequirements `msg:"resources"`
	RestartPolicy            string               `msg:"restartPolicy,omitempty"`
	RestartPolicyRules       []RestartRule        `msg:"restartPolicyRules,omitempty"`
	SecurityContext          *SecurityContext     `msg:"securityContext,omitempty"`
	StartupProbe             *Probe               `msg:"startupProbe,omitempty"`
	Stdin                    bool                 `msg:"stdin,omitempty"`
	StdinOnce                bool                 `msg:"stdinOnce,omitempty"`
	TargetContainerName      string               `msg:"targetContainerName,omitempty"` // of ephemeral containers only
	TerminationMessagePath   string               `msg:"terminationMessagePath,omitempty"`
	TerminationMessagePolicy string               `msg:"terminationMessagePolicy,omitempty"`
	TTY                      bool                 `msg:"tty,omitempty"`
	VolumeMounts             []VolumeMount        `msg:"volumeMounts,omitempty"`
	WorkingDir               string               `msg:"workingDir,omitempty"`
}

// ResizePolicy says whether a container is restarted when one of its resources is resized: NotRequired or RestartContainer.
type ResizePolicy struct {
	ResourceName  string `msg:"resourceName"`
	RestartPolicy string `msg:"restartPolicy"`
}

// RestartRule says what happens when a container ends with certain exit codes: Restart, or RestartAllContainers.
type RestartRule struct {
	Action    string            `msg:"action"`
	ExitCodes *RestartExitCodes `msg:"exitCodes,omitempty"`
}

// RestartExitCodes are the exit codes of a RestartRule: those In, or NotIn, the values.
type RestartExitCodes struct {
	Operator string  `msg:"operator"`
	Values   []int32 `msg:"values,omitempty"`
}

// ContainerPort is a port that a container listens on.
type ContainerPort struct {
	ContainerPort int32  `msg:"containerPort"`
	HostIP        string `msg:"hostIP,omitempty"`
	HostPort      int32  `msg:"hostPort,omitempty"`
	Name          string `msg:"name,omitempty"`
	Protocol      string `msg:"protocol,omitempty"`
}

// ResourceRequirements are what a container asks for and what it may take at most.
type ResourceRequirements struct {
	Limits   ResourceList `msg:"limits,omitzero"`
	Requests ResourceList `msg:"requests,omitzero"`
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name      string        `msg:"name"`
	Value     string        `msg:"value,omitempty"`
	ValueFrom *EnvVarSource `msg:"valueFrom,omitempty"`
}

// EnvVarSource says where a variable's value comes from.
type EnvVarSource struct {
	ConfigMapKeyRef  *KeySelector           `msg:"configMapKeyRef,omitempty"`
	FieldRef         *ObjectFieldSelector   `msg:"fieldRef,omitempty"`
	ResourceFieldRef *ResourceFieldSelector `msg:"resourceFieldRef,omitempty"`
	SecretKeyRef     *KeySelector           `msg:"secretKeyRef,omitempty"`
}

// KeySelector selects one key of a configMap or secret.
type KeySelector struct {
	Key      string `msg:"key"`
	Name     string `msg:"name,omitempty"`
	Optional *bool  `msg:"optional,omitempty"`
}

// ObjectFieldSelector selects a field of the pod itself, such as metadata.name.
type ObjectFieldSelector struct {
	APIVersion string `msg:"apiVersion,omitempty"`
	FieldPath  string `msg:"fieldPath"`
}

// ResourceFieldSelector selects a resource of a container, such as limits.memory.
type ResourceFieldSelector struct {
	ContainerName string    `msg:"containerName,omitempty"`
	Divisor       *Quantity `msg:"divisor,omitempty"`
	Resource      string    `msg:"resource"`
}

// EnvFromSource takes all keys of a configMap or secret as variables.
type EnvFromSource struct {
	ConfigMapRef *OptionalReference `msg:"configMapRef,omitempty"`
	Prefix       string             `msg:"prefix,omitempty"`
	SecretRef    *OptionalReference `msg:"secretRef,omitempty"`
}

// OptionalReference names a configMap or secret that may be allowed not to exist.
type OptionalReference struct {
	Name     string `msg:"name,omitempty"`
	Optional *bool  `msg:"optional,omitempty"`
}

// SecurityContext holds what applies to one container and overrides the pod's.
type SecurityContext struct {
	AllowPrivilegeEscalation *bool            `msg:"allowPrivilegeEscalation,omitempty"`
	AppArmorProfile          *AppArmorProfile `msg:"appArmorProfile,omitempty"`
	Capabilities             *Capabilities    `msg:"capabilities,omitempty"`
	Privileged               *bool            `msg:"privileged,omitempty"`
	ProcMount                string           `msg:"procMount,omitempty"` // Default or Unmasked
	ReadOnlyRootFilesystem   *bool            `msg:"readOnlyRootFilesystem,omitempty"`
	RunAsGroup               *int64           `msg:"runAsGroup,omitempty"`
	RunAsNonRoot             *bool            `msg:"runAsNonRoot,omitempty"`
	RunAsUser                *int64           `msg:"runAsUser,omitempty"`
	SELinuxOptions           *SELinuxOptions  `msg:"seLinuxOptions,omitempty"`
	SeccompProfile           *SeccompProfile  `msg:"seccompProfile,omitempty"`
}

// Capabilities are Linux capabilities to add to or drop from the runtime's default set.
type Capabilities struct {
	Add  []string `msg:"add,omitempty"`
	Drop []string `msg:"drop,omitempty"`
}

// Probe checks a running container. Durations are seconds.
type Probe struct {
	Exec                          *ExecAction      `msg:"exec,omitempty"`
	FailureThreshold              int32            `msg:"failureThreshold,omitempty"`
	GRPC                          *GRPCAction      `msg:"grpc,omitempty"`
	HTTPGet                       *HTTPGetAction   `msg:"httpGet,omitempty"`
	InitialDelaySeconds           int32            `msg:"initialDelaySeconds,omitempty"`
	PeriodSeconds                 int32            `msg:"periodSeconds,omitempty"`
	SuccessThreshold              int32            `msg:"successThreshold,omitempty"`
	TCPSocket                     *TCPSocketAction `msg:"tcpSocket,omitempty"`
	TerminationGracePeriodSeconds *int64           `msg:"terminationGracePeriodSeconds,omitempty"`
	TimeoutSeconds                int32            `msg:"timeoutSeconds,omitempty"`
}

// Lifecycle is what happens right after a container's start, and before it is stopped.
type Lifecycle struct {
	PostStart *LifecycleHandler `msg:"postStart,omitempty"`
	PreStop   *LifecycleHandler `msg:"preStop,omitempty"`

	StopSignal *string `msg:"stopSignal,omitempty"` // SIGTERM and the like
}

// LifecycleHandler is one of these.
type LifecycleHandler struct {
	Exec    *ExecAction    `msg:"exec,omitempty"`
	HTTPGet *HTTPGetAction `msg:"httpGet,omitempty"`
	Sleep   *SleepAction   `msg:"sleep,omitempty"`
}

// SleepAction waits.
type SleepAction struct {
	Seconds int64 `msg:"seconds"`
}

// ExecAction runs a command in the container; exit code 0 is success.
type ExecAction struct {
	Command []string `msg:"command,omitempty"`
}

// HTTPGetAction asks a URL; 200 to 399 is success.
type HTTPGetAction struct {
	Host        string       `msg:"host,omitempty"`
	HTTPHeaders []HTTPHeader `msg:"httpHeaders,omitempty"`
	Path        string       `msg:"path,omitempty"`
	Port        IntOrString  `msg:"port"`
	Scheme      string       `msg:"scheme,omitempty"`
}

// GRPCAction asks a gRPC server for its health; SERVING is success.
type GRPCAction struct {
	Port    int32  `msg:"port"`
	Service string `msg:"service,omitempty"`
}

// HTTPHeader is one header of a probe's request.
type HTTPHeader struct {
	Name  string `msg:"name"`
	Value string `msg:"value"`
}

// TCPSocketAction opens a connection; an accepted connection is success.
type TCPSocketAction struct {
	Host string      `msg:"host,omitempty"`
	Port IntOrString `msg:"port"`
}
