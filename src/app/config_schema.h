/* config_schema.h - what the files that describe the configuration to libcyaml share. */
#ifndef SL_APP_CONFIG_SCHEMA_H
#define SL_APP_CONFIG_SCHEMA_H

#include "app/config_tree.h"

#define OPT CYAML_FLAG_OPTIONAL
#define STR(key, type, member)                                                                     \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | OPT, type, member, 0, CYAML_UNLIMITED)

extern const cyaml_schema_field_t config_auth_fields[];

#endif
