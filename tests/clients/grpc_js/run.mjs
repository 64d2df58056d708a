// Runs a TypeScript file as it stands in the documentation: its types are left out, nothing else is changed.
import { readFileSync, writeFileSync } from "node:fs";
import ts from "typescript";

const source = readFileSync(process.argv[2], "utf8");
const options = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 };
const made = ts.transpileModule(source, { compilerOptions: options, reportDiagnostics: true });
for (const problem of made.diagnostics) throw new Error(ts.flattenDiagnosticMessageText(problem.messageText, "\n"));
const script = new URL(`./snippet-${process.pid}.mjs`, import.meta.url);
writeFileSync(script, made.outputText);
await import(script.href);
