# shellcheck shell=sh
# File names that a snapshot leaves out while they are untracked, and that a reset leaves in place: shell globs on the name
# without its folder, one a line. Use them with `set -f`.
# shellcheck disable=SC2034
SECRET_PATTERNS='
.env
.env.*
*.pem
*.key
*.p12
*.pfx
*.jks
*.keystore
*.kdbx
*.ovpn
id_rsa*
id_dsa*
id_ecdsa*
id_ed25519*
.npmrc
.pypirc
.netrc
_netrc
.pgpass
.my.cnf
.htpasswd
.git-credentials
.dockercfg
.vault-token
credentials
credentials.json
.credentials.json
client_secret*.json
service-account*.json
secrets.json
secrets.yaml
secrets.yml
*.tfstate
*.tfvars
kubeconfig
'

# is_secret PATH: whether the name, as git lists it, is a secret's.
is_secret() {
  secret_name=${1%\"}
  secret_name=${secret_name##*/}
  secret_name=${secret_name#\"}
  set -f
  for secret_pattern in $SECRET_PATTERNS; do
    # shellcheck disable=SC2254 # a glob
    case $secret_name in $secret_pattern) set +f && return 0 ;; esac
  done
  set +f
  return 1
}
