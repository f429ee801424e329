"""Names that a pickle can import and call to run code, open files or sockets, or change settings.

Every call is given the canary: where it really ran, a file would appear, a listener on this machine
would be called, or a variable would be set.
"""

from opcodes import called, imported, pushed, torch_legacy, torch_zip, whole

SHELL = [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("os", "popen"), ("os", "startfile"),
    ("subprocess", "Popen"), ("subprocess", "call"), ("subprocess", "run"),
    ("subprocess", "check_call"), ("subprocess", "check_output"), ("subprocess", "getoutput"),
    ("subprocess", "getstatusoutput"), ("commands", "getoutput"), ("popen2", "popen2"),
    ("pty", "spawn"), ("asyncio", "create_subprocess_shell"), ("_posixsubprocess", "fork_exec"),
    ("multiprocessing.util", "spawnv_passfds"), ("pydoc", "pipepager"), ("webbrowser", "open"),
    ("distutils.spawn", "spawn"), ("setuptools._distutils.spawn", "spawn"),
    ("torch._inductor.codecache", "compile_file"), ("platform", "popen"),
    ("os", "execl"), ("os", "spawnlp"), ("os", "posix_spawn"), ("ctypes", "CDLL"),
    ("ctypes", "PyDLL"), ("cffi", "dlopen"), ("_ctypes", "dlopen"), ("torch.ops", "load_library"),
]  # fmt: skip
CODE = [
    ("builtins", "eval"), ("builtins", "exec"), ("builtins", "compile"), ("__builtin__", "eval"),
    ("__builtin__", "execfile"), ("builtins", "__import__"), ("importlib", "import_module"),
    ("runpy", "run_path"), ("runpy", "_run_code"), ("code", "InteractiveInterpreter"),
    ("codeop", "compile_command"), ("timeit", "timeit"), ("timeit", "main"), ("cProfile", "run"),
    ("profile", "run"), ("pdb", "run"), ("bdb", "Bdb"), ("trace", "Trace"),
    ("doctest", "debug_script"), ("idlelib.run", "Executive"), ("lib2to3.pgen2.pgen", "generate"),
    ("numpy.testing._private.utils", "runstring"), ("numpy.f2py.crackfortran", "myeval"),
    ("numpy.f2py.capi_maps", "getinit"), ("sympy", "sympify"), ("pandas", "eval"),
    ("torch.jit.unsupported_tensor_ops", "execWrapper"), ("torch.fx.graph_module", "_forward_from_src"),
    ("torch._dynamo.guards", "GuardBuilder.get"), ("torch.utils._config_module", "ConfigModule.load_config"),
    ("types", "FunctionType"), ("types", "CodeType"), ("functools", "partial"), ("operator", "methodcaller"),
    ("operator", "attrgetter"), ("builtins", "getattr"), ("builtins", "map"), ("builtins", "setattr"),
    ("builtins", "globals"), ("builtins", "vars"), ("copyreg", "add_extension"), ("copyreg", "_reconstructor"),
    ("pip._internal.cli.main", "main"), ("ensurepip", "_run_pip"), ("venv", "create"),
    ("zipimport", "zipimporter"), ("site", "addsitedir"), ("logging.config", "dictConfig"),
]  # fmt: skip
LOADERS = [
    ("pickle", "loads"), ("_pickle", "loads"), ("cPickle", "loads"), ("dill", "loads"),
    ("cloudpickle", "loads"), ("joblib", "load"), ("marshal", "loads"), ("shelve", "open"),
    ("yaml", "unsafe_load"), ("numpy", "load"), ("pandas", "read_pickle"), ("torch", "load"),
    ("torch.hub", "load"), ("torch.jit", "load"), ("torch.storage", "_load_from_bytes"),
    ("torch.package", "PackageImporter"), ("torch.serialization", "load"),
    ("torch._tensor", "_rebuild_from_type_v2"), ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_wrapper_subclass"), ("torch.nn.modules.linear", "Linear"),
]  # fmt: skip
FILES = [
    ("builtins", "open"), ("io", "open"), ("_io", "FileIO"), ("pathlib", "PosixPath"), ("shutil", "copyfile"),
    ("shutil", "rmtree"), ("os", "remove"), ("os", "mkdir"), ("os", "symlink"), ("tempfile", "mkdtemp"),
    ("distutils.file_util", "write_file"), ("sqlite3", "connect"), ("dbm.dumb", "open"),
    ("numpy", "memmap"), ("torch", "from_file"), ("linecache", "getlines"),
]  # fmt: skip
SOCKETS = [
    ("socket", "create_connection"), ("urllib.request", "urlopen"), ("urllib.request", "urlretrieve"),
    ("http.client", "HTTPConnection"), ("ftplib", "FTP"), ("smtplib", "SMTP"),
    ("xmlrpc.client", "ServerProxy"), ("requests", "get"), ("torch.hub", "load_state_dict_from_url"),
    ("logging.handlers", "SocketHandler"), ("multiprocessing.connection", "Client"),
]  # fmt: skip
SETTINGS = [
    ("os", "putenv"), ("posix", "putenv"), ("os", "chdir"), ("os", "kill"), ("signal", "raise_signal"),
    ("sys", "setrecursionlimit"), ("faulthandler", "_sigsegv"), ("os", "_exit"),
    ("torch.serialization", "add_safe_globals"), ("torch", "set_default_device"), ("gc", "disable"),
]  # fmt: skip


def arguments(group, canary):
    """Return what each kind of name is called with."""
    return {
        "shell": (f"touch {canary.file}",),
        "code": (f"open({str(canary.file)!r}, 'w').close()",),
        "loader": (str(canary.file),),
        "file": (str(canary.file), "w"),
        "socket": (("127.0.0.1", canary.port),),
        "setting": (canary.variable, "1"),
    }[group]


def containers(body, index):
    """Return a payload in one of the containers, in turn, and the name of the file."""
    pickled = whole(body)
    forms = (
        lambda: ("pkl", pickled),
        lambda: ("pt", torch_zip(pickled, data=())),
        lambda: ("pth", torch_legacy(pickled, keys=(), data=b"")),
        lambda: ("bin", torch_zip(whole(pushed({"state_dict": body})), data=())),
    )
    return forms[index % len(forms)]()


def gadgets():
    """Yield (name, group, module, function)."""
    groups = {"shell": SHELL, "code": CODE, "loader": LOADERS, "file": FILES, "socket": SOCKETS,
              "setting": SETTINGS}  # fmt: skip
    for group, names in groups.items():
        yield from ((f"{module}.{name}", group, module, name) for module, name in names)


def payload(group, module, name, canary):
    """Return the opcodes that import and call a gadget."""
    return called(module, name, *arguments(group, canary))


def chains(canary):
    """Yield gadgets that are reached through others: no single name says what happens."""
    command = f"touch {canary.file}"
    getter = called("builtins", "getattr", imported("os", "path"), "os")
    yield (
        "getattr chain",
        called("builtins", "getattr", getter, "system") + pushed((command,)) + b"R",
    )
    caller = called("operator", "methodcaller", "system", command)
    yield "methodcaller", caller + pushed((imported("builtins", "__import__"),)) + b"R"
    bound = called("functools", "partial", imported("os", "system"), command)
    yield "partial", bound + b")R"
    yield "map", called("builtins", "list", called("builtins", "map", imported("os", "system"),
                                                   [command]))  # fmt: skip
    yield "nested pickle", called("pickle", "loads", whole(called("os", "system", command)))
