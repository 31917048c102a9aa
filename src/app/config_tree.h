/* config_tree.h - walking the configuration by its schema: one walk serves the environment,
 * secrets, `sluice config show`, and what changed at a reload. Internal to the room. */
#ifndef SL_APP_CONFIG_TREE_H
#define SL_APP_CONFIG_TREE_H

#include <cyaml/cyaml.h>

#include "app/config.h"
#include "base/buf.h"

/* The schema's top mapping, in config.c. */
extern const cyaml_schema_field_t config_root_fields[];

/* The text of a file; name is for errors. *ret stays NULL for an empty text. No environment. */
SL_NODISCARD sl_status config_parse(const char *name, sl_span text, config **ret, sl_err *err);

/* What is known of a key beyond its type, in config_keys.c. Paths of list entries have [], as
 * "models[].path". */
typedef struct config_key {
    const char *path, *help;
    const char *shown_default; /* as text; NULL: none */
    bool is_secret;            /* shown as *** */
    bool reloads;              /* may change while serving */
} config_key;

/* NULL: no such key. */
const config_key *config_key_find(const char *path);

int config_key_count(void);

/* One scalar, or one element of a list of scalars. */
typedef struct config_leaf {
    const char *path;        /* "kv.memory", "models[0].path", "api_keys[1]" */
    const char *schema_path; /* the same with [] */
    const cyaml_schema_value_t *type;
    void *at;     /* the value: int of type->data_size bytes, double, bool; char ** for strings */
    bool in_list; /* somewhere below a list */
} config_leaf;

typedef sl_status (*config_leaf_fn)(void *ctx, const config_leaf *leaf, sl_err *err);
/* All leaves in the schema's order; stops at the first failure. */
sl_status config_walk(config *c, config_leaf_fn fn, void *ctx, sl_err *err);

int64_t config_leaf_int(const config_leaf *leaf);

/* Overrides from the environment: SLUICE_ and the path in upper case, dots as underscores. */
sl_status config_apply_env(config *c, sl_err *err);
/* ${env:NAME} and ${file:PATH} within strings become what they name. */
sl_status config_expand(config *c, sl_err *err);

/* The mapping's key that is most like `name`; NULL: none is. path "" is the top. */
const char *config_nearest(const char *path, const char *name);

#endif
