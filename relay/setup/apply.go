package setup

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/skerry/skerry/relay/api/crds"
	"github.com/skerry/skerry/relay/enroll"
	"github.com/skerry/skerry/relay/overview"
	"github.com/skerry/skerry/relay/tickets"
)

// Step is one object that Apply looked at.
type Step struct {
	Kind    string
	Name    string // NAMESPACE/NAME, or NAME
	Outcome crds.Outcome
}

// Options change what Apply does.
type Options struct {
	// NewRevocationList makes an empty list of revoked nodes in a cluster that has a CA and no list, and thereby gives up what the
	// list said. Without it that is an error.
	NewRevocationList bool
	// NewCA makes a CA in a cluster that has had one, which shuts out every gateway. Without it that is ErrHadCA. A CA that is
	// there stays, with it too.
	NewCA bool
}

// ErrHadCA says that the CA is missing in a cluster whose gateways have certificates of it.
var ErrHadCA = errors.New("the CA has been deleted")

// Apply prepares the cluster and calls report for each object as it is done.
func Apply(ctx context.Context, core kubernetes.Interface, ext apiextensions.Interface, o Options, report func(Step)) error {
	a := applier{ctx: ctx, core: core, report: report}
	if err := a.namespace(enroll.Namespace); err != nil {
		return err
	}
	err := crds.Install(ctx, ext, func(name string, o crds.Outcome) { report(Step{"CustomResourceDefinition", name, o}) })
	if err != nil {
		return err
	}
	if err := a.mayMakeCA(o); err != nil {
		return err
	}
	_, created, err := enroll.InitCA(ctx, core, time.Now())
	if err != nil {
		return err
	}
	a.done("Secret", enroll.Namespace+"/"+enroll.CASecret, created, false)
	if err := a.revoked(created || o.NewRevocationList); err != nil {
		return err
	}
	if err := a.ticketKeys(); err != nil {
		return err
	}
	if err := a.rights(); err != nil {
		return err
	}
	return a.policies()
}

// mayMakeCA refuses a new CA where there are traces of another one: relays that run would take it up at once, and end every session.
func (a applier) mayMakeCA(o Options) error {
	_, err := enroll.LoadCA(a.ctx, a.core)
	if !errors.Is(err, enroll.ErrNoCA) || o.NewCA {
		return nil // InitCA tells of other errors
	}
	const advice = "restore Secret %s/%s from a backup; while relays run, gateways notice nothing. If there is no backup: " +
		"`skerryctl init --new-ca` makes another CA, and every gateway must join anew"
	refuse := func(trace string) error {
		return fmt.Errorf("%w, and gateways have certificates of it (%s): "+advice, ErrHadCA, trace, enroll.Namespace, enroll.CASecret)
	}
	if _, err := enroll.ListRevoked(a.ctx, a.core); err == nil {
		return refuse("there is a list of revoked nodes")
	} else if !errors.Is(err, enroll.ErrNoRevoked) {
		return err
	}
	nodes, err := a.core.CoreV1().Nodes().List(a.ctx, metav1.ListOptions{LabelSelector: overview.AgentLabel + "=true", Limit: 1})
	if err != nil {
		return fmt.Errorf("list Nodes, to see whether gateways have joined: %w", err)
	}
	if len(nodes.Items) > 0 {
		return refuse("there is Node " + nodes.Items[0].Name)
	}
	return nil
}

// revoked makes the empty list of revoked nodes. One that is missing beside a CA that was there before has been deleted: to make
// it anew would restore whoever was on it.
func (a applier) revoked(may bool) error {
	if !may {
		if _, err := enroll.ListRevoked(a.ctx, a.core); err != nil {
			return err
		}
	}
	created, err := enroll.InitRevoked(a.ctx, a.core)
	if err != nil {
		return err
	}
	a.done("ConfigMap", enroll.Namespace+"/"+enroll.RevokedMap, created, false)
	return nil
}

// ticketKeys makes the Secret that the relays fill, so that they need no right to create any.
func (a applier) ticketKeys() error {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: tickets.Secret, Namespace: tickets.Namespace}}
	_, err := a.core.CoreV1().Secrets(tickets.Namespace).Create(a.ctx, s, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Secret %s/%s: %w", tickets.Namespace, tickets.Secret, err)
	}
	a.done("Secret", tickets.Namespace+"/"+tickets.Secret, err == nil, false)
	return nil
}

type applier struct {
	ctx    context.Context
	core   kubernetes.Interface
	report func(Step)
}

func (a applier) done(kind, name string, created, updated bool) {
	o := crds.Unchanged
	switch {
	case created:
		o = crds.Created
	case updated:
		o = crds.Updated
	}
	a.report(Step{kind, name, o})
}

func (a applier) namespace(name string) error {
	_, err := a.core.CoreV1().Namespaces().Create(a.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create Namespace %s: %w", name, err)
	}
	a.done("Namespace", name, err == nil, false)
	return nil
}

// ServiceAccount is the relay's, in enroll.Namespace.
const ServiceAccount = "skerry-relay"

func (a applier) rights() error {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: ServiceAccount, Namespace: enroll.Namespace}}
	_, err := a.core.CoreV1().ServiceAccounts(enroll.Namespace).Create(a.ctx, sa, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create ServiceAccount %s/%s: %w", sa.Namespace, sa.Name, err)
	}
	a.done("ServiceAccount", sa.Namespace+"/"+sa.Name, err == nil, false)

	rbac := a.core.RbacV1()
	subject := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: ServiceAccount, Namespace: enroll.Namespace}}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: ServiceAccount}, Rules: clusterRules()}
	err = ensure(a, "ClusterRole", role, rbac.ClusterRoles(), func(have *rbacv1.ClusterRole) bool {
		same := equality.Semantic.DeepEqual(have.Rules, role.Rules)
		have.Rules = role.Rules
		return same
	})
	if err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ServiceAccount}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ServiceAccount},
	}
	err = ensure(a, "ClusterRoleBinding", binding, rbac.ClusterRoleBindings(), func(have *rbacv1.ClusterRoleBinding) bool {
		same := equality.Semantic.DeepEqual(have.Subjects, subject)
		have.Subjects = subject
		return same
	})
	if err != nil {
		return err
	}
	for _, n := range namespaceRules() {
		if err := a.roleIn(n.namespace, n.rules, subject); err != nil {
			return err
		}
	}
	return nil
}

func (a applier) roleIn(ns string, rules []rbacv1.PolicyRule, subject []rbacv1.Subject) error {
	rbac := a.core.RbacV1()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: ServiceAccount, Namespace: ns}, Rules: rules}
	err := ensure(a, "Role", role, rbac.Roles(ns), func(have *rbacv1.Role) bool {
		same := equality.Semantic.DeepEqual(have.Rules, rules)
		have.Rules = rules
		return same
	})
	if err != nil {
		return err
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ServiceAccount, Namespace: ns}, Subjects: subject,
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: ServiceAccount},
	}
	return ensure(a, "RoleBinding", binding, rbac.RoleBindings(ns), func(have *rbacv1.RoleBinding) bool {
		same := equality.Semantic.DeepEqual(have.Subjects, subject)
		have.Subjects = subject
		return same
	})
}

// client is what the typed clients have in common, as far as ensure needs it.
type client[T metav1.Object] interface {
	Get(context.Context, string, metav1.GetOptions) (T, error)
	Create(context.Context, T, metav1.CreateOptions) (T, error)
	Update(context.Context, T, metav1.UpdateOptions) (T, error)
}

// ensure creates want, or makes what exists like it: amend does that to a copy and says whether it was so already.
func ensure[T metav1.Object](a applier, kind string, want T, c client[T], amend func(T) bool) error {
	name := want.GetName()
	if ns := want.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	for attempt := 1; ; attempt++ {
		have, err := c.Get(a.ctx, want.GetName(), metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		switch {
		case missing:
			_, err = c.Create(a.ctx, want, metav1.CreateOptions{})
		case err == nil && amend(have):
			a.done(kind, name, false, false)
			return nil
		case err == nil:
			_, err = c.Update(a.ctx, have, metav1.UpdateOptions{})
		}
		if err == nil {
			a.done(kind, name, missing, !missing)
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) || attempt == 5 {
			return fmt.Errorf("%s %s: %w", kind, name, err)
		}
	}
}
