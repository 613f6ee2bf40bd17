package hearpack.core.bundle

import hearpack.core.audio.DspReader
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** Reads manifest.json and refuses what runtimes/bundle/manifest.py refuses. Unknown fields are ignored. */
object ManifestReader {
    /**
     * @param text the manifest's text.
     * @param origin names the bundle in messages.
     * @throws BundleException not JSON, of a newer schema, or invalid.
     */
    fun parse(
        text: String,
        origin: String,
    ): Manifest {
        val data =
            try {
                JSONObject(text)
            } catch (e: JSONException) {
                throw BundleException(BundleFault.INVALID, "$origin: not JSON (${e.message}); install it again", e)
            }
        checkSchema(data.opt("schema"), origin)
        try {
            return Fields(data, "").manifest().also(::checkConsistent)
        } catch (e: InvalidField) {
            val message = "$origin: invalid against $SCHEMA: ${e.message}; export the bundle again"
            throw BundleException(BundleFault.INVALID, message, e)
        }
    }

    /** Decisions alone, as golden.json keeps them. */
    fun decisions(
        data: JSONObject,
        origin: String,
    ): Decisions =
        try {
            Fields(data, "decisions.").decisions()
        } catch (e: InvalidField) {
            throw BundleException(BundleFault.INVALID, "$origin: ${e.message}", e)
        }

    private fun checkSchema(
        schema: Any?,
        origin: String,
    ) {
        if (schema !is String || !schema.startsWith("hearpack/")) {
            throw BundleException(BundleFault.INVALID, "$origin: expected a manifest with schema $SCHEMA, got $schema")
        }
        if (schema.substringBefore('.') != SCHEMA) {
            val message = "$origin: schema $schema is not one this app reads ($SCHEMA); update the app or export again"
            throw BundleException(BundleFault.NEWER_SCHEMA, message)
        }
    }

    private fun checkConsistent(m: Manifest) {
        val audio = m.inputs.first()
        val expected =
            if (m.buffer.kind == BufferKind.WINDOW) {
                m.geometry.windowSamples
            } else {
                m.buffer.hopsPerCall * m.geometry.hopSamples
            }
        require(m.task != Task.CLASSIFIER || m.decisions != null) { "a classifier must have `decisions`" }
        require(m.geometry.channels == 1) { "geometry.channels: this app is mono, got ${m.geometry.channels}" }
        require(audio.name == "audio") { "the first input must be `audio`, got ${audio.name}" }
        require(audio.shape.last() == m.buffer.samples) {
            "audio takes ${audio.shape.last()} samples, buffer.samples says ${m.buffer.samples}"
        }
        require(m.buffer.samples == expected) {
            "buffer.samples is ${m.buffer.samples}, geometry and hops_per_call give $expected"
        }
        DspReader.check(m)
    }

    private inline fun require(
        condition: Boolean,
        message: () -> String,
    ) {
        if (!condition) throw InvalidField(message())
    }
}

internal class InvalidField(
    message: String,
) : Exception(message)

/** The fields of one JSON object; [path] names it in messages. */
internal class Fields(
    private val data: JSONObject,
    private val path: String,
) {
    fun manifest() =
        Manifest(
            schema = string("schema"),
            name = string("name"),
            task = choice("task", Task.entries),
            geometry = inner("geometry").geometry(),
            buffer = inner("buffer").buffer(),
            inputs = list("inputs", 1) { it.tensor() },
            outputs = list("outputs", 1) { it.tensor() },
            states = list("states", 0) { it.state() },
            decisions = optional("decisions")?.decisions(),
            dsp = if (has("dsp")) list("dsp", 0) { DspReader.stage(it) } else emptyList(),
            prefillSamples = optional("playout")?.int("prefill_samples", 0),
            artefacts = list("artefacts", 1) { it.artefact() },
        )

    private fun geometry() =
        Geometry(
            int("sample_rate_hz", 1),
            int("channels", 1),
            int("window_samples", 1),
            int("hop_samples", 1),
            int("delay_samples", 0),
        )

    private fun buffer() = BufferSpec(choice("kind", BufferKind.entries), int("hops_per_call", 1), int("samples", 1))

    private fun tensor() = float32 { TensorSpec(string("name"), ints("shape")) }

    private fun state() = float32 { StateSpec(string("in"), string("out"), ints("shape"), string("reset")) }

    private fun <T> float32(make: () -> T): T {
        if (string("dtype") != "float32") fail("dtype", "float32", string("dtype"))
        return make()
    }

    fun decisions(): Decisions {
        val decisions =
            Decisions(
                windowHopSamples = int("window_hop_samples", 1),
                smoothingWindows = if (has("smoothing_windows")) int("smoothing_windows", 1) else 1,
                onThreshold = numberOrNull("on_threshold", 1.0) ?: 0.5,
                offThreshold = numberOrNull("off_threshold", 1.0) ?: 0.3,
                minOnMs = numberOrNull("min_on_ms") ?: 0.0,
                minOffMs = numberOrNull("min_off_ms") ?: 0.0,
                perLabel = optional("per_label")?.labels() ?: emptyMap(),
            )
        for ((label, own) in decisions.perLabel + mapOf("" to LabelDecisions(null, null, null, null))) {
            val on = own.onThreshold ?: decisions.onThreshold
            val off = own.offThreshold ?: decisions.offThreshold
            if (off > on) throw InvalidField("${path}off_threshold: $off is above on_threshold $on $label".trimEnd())
        }
        return decisions
    }

    private fun labels(): Map<String, LabelDecisions> =
        names().associateWith {
            val fields = inner(it)
            LabelDecisions(
                fields.numberOrNull("on_threshold", 1.0),
                fields.numberOrNull("off_threshold", 1.0),
                fields.numberOrNull("min_on_ms"),
                fields.numberOrNull("min_off_ms"),
            )
        }

    private fun artefact() =
        Artefact(
            id = string("id"),
            format = string("format"),
            files = list("files", 1) { it.file() },
            androidApi =
                optional(
                    "minimum_os",
                )?.let { if (it.has("android_api")) it.int("android_api", 1) else 1 } ?: 1,
            allowedCompute = strings("allowed_compute").map { unit(it) },
            io = optional("io")?.let { io -> io.names().associateWith { io.string(it) } } ?: emptyMap(),
            tolerance = list("tolerance", 0) { Tolerance(it.string("metric"), it.number("limit")) },
        )

    private fun unit(name: String): ComputeUnit =
        ComputeUnit.entries.find { it.name.lowercase() == name } ?: fail("allowed_compute", "cpu, gpu or npu", name)

    private fun file(): FileEntry {
        val file = string("path")
        val inside = file.isNotEmpty() && !file.startsWith("/") && '\\' !in file && ".." !in file.split("/")
        if (!inside) fail("path", "a path inside the bundle", file)
        val sha256 = string("sha256")
        if (!Regex("[0-9a-f]{64}").matches(sha256)) fail("sha256", "64 hexadecimal digits", sha256)
        return FileEntry(file, sha256, number("bytes").toLong())
    }

    fun has(name: String) = !data.isNull(name)

    fun names(): List<String> =
        data
            .keys()
            .asSequence()
            .map { it.toString() }
            .sorted()
            .toList()

    private fun fail(
        name: String,
        expected: String,
        came: Any?,
    ): Nothing = throw InvalidField("$path$name: expected $expected, got ${came ?: "nothing"}")

    fun string(name: String): String = data.opt(name) as? String ?: fail(name, "a text", data.opt(name))

    fun number(name: String): Double {
        val value = (data.opt(name) as? Number)?.toDouble() ?: fail(name, "a number", data.opt(name))
        return if (value.isInfinite() || value.isNaN()) fail(name, "a finite number", value) else value
    }

    private fun numberOrNull(
        name: String,
        highest: Double = Double.MAX_VALUE,
    ): Double? {
        if (!has(name)) return null
        return number(name).also { if (it < 0.0 || it > highest) fail(name, "0 to $highest", it) }
    }

    private fun int(
        name: String,
        lowest: Int,
    ): Int {
        val value = number(name)
        if (value != Math.rint(value) || value < lowest || value > Int.MAX_VALUE) {
            fail(name, "a whole number of at least $lowest", data.opt(name))
        }
        return value.toInt()
    }

    private fun <T : Enum<T>> choice(
        name: String,
        values: List<T>,
    ): T {
        val text = string(name)
        val valid = values.map { it.name.lowercase() }
        return values.find { it.name.lowercase() == text } ?: fail(name, valid.joinToString(" or "), text)
    }

    private fun inner(name: String): Fields = optional(name) ?: fail(name, "an object", data.opt(name))

    private fun optional(name: String): Fields? {
        if (!has(name)) return null
        val value = data.opt(name) as? JSONObject ?: fail(name, "an object", data.opt(name))
        return Fields(value, "$path$name.")
    }

    private fun array(name: String): JSONArray = data.opt(name) as? JSONArray ?: fail(name, "a list", data.opt(name))

    private fun <T> list(
        name: String,
        atLeast: Int,
        item: (Fields) -> T,
    ): List<T> {
        val array = array(name)
        if (array.length() < atLeast) fail(name, "at least $atLeast entries", array.length())
        return List(array.length()) { i ->
            val value = array.opt(i) as? JSONObject ?: fail("$name.$i", "an object", array.opt(i))
            item(Fields(value, "$path$name.$i."))
        }
    }

    private fun strings(name: String): List<String> {
        val array = array(name)
        return List(array.length()) { array.opt(it) as? String ?: fail("$name.$it", "a text", array.opt(it)) }
    }

    private fun ints(name: String): List<Int> {
        val array = array(name)
        return List(array.length()) {
            val n = (array.opt(it) as? Number)?.toInt() ?: fail("$name.$it", "a whole number", array.opt(it))
            if (n < 1) fail("$name.$it", "at least 1", n) else n
        }
    }
}
