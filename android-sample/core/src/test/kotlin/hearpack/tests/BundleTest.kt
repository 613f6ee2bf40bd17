package hearpack.tests

import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.ManifestReader
import hearpack.core.bundle.ModelStore
import hearpack.core.bundle.Task
import hearpack.core.bundle.floats
import hearpack.core.bundle.isInside
import hearpack.core.bundle.isName
import hearpack.core.bundle.printable
import hearpack.core.stream.DecisionTracker
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue

/** Bundles that cannot be used: each says why, and which fault it is. */
private const val FAR =
    "{\"name\":\"far\",\"shape\":[1,4],\"dtype\":\"float32\",\"range\":[-3.4e+38,3.4e+38],\"meaning\":\"m\"}"

class BundleTest {
    private fun refused(
        fault: BundleFault,
        vararg words: String,
        open: () -> Unit,
    ) {
        val came = assertFailsWith<BundleException> { open() }
        assertEquals(fault, came.fault, came.message)
        for (word in words) assertTrue(word in came.message!!, "expected '$word' in: ${came.message}")
    }

    private fun parse(text: String) = ManifestReader.parse(text, "x")

    @Test fun theExportedBundlesOpen() {
        val dtln = Given.bundle("dtln")
        assertEquals(Task.ENHANCER, dtln.manifest.task)
        assertEquals("dtln-128.hearpack", dtln.manifest.folderName)
        assertEquals(listOf("samples", "overlap", "hidden", "cell"), dtln.manifest.states.map { it.inName })
        val yamnet = Given.bundle("yamnet")
        assertEquals(521, yamnet.labels.size)
        assertEquals("Bicycle bell", yamnet.labels[198])
        assertEquals(7680, yamnet.manifest.hopSamples)
    }

    @Test fun aNewerSchemaIsRefusedAndANewerMinorIsRead() {
        refused(BundleFault.NEWER_SCHEMA, "hearpack/2", "update the app") { parse(manifestText(schema = "hearpack/2")) }
        refused(BundleFault.NEWER_SCHEMA, "hearpack/10") { parse(manifestText(schema = "hearpack/10")) }
        assertEquals("fake", parse(manifestText(schema = "hearpack/1.7")).name)
    }

    @Test fun aBrokenHashIsRefused() {
        val files = fakeFiles(manifestText())
        files.files["litert/fake.tflite"] = "a modem".toByteArray()
        refused(BundleFault.DAMAGED, "litert/fake.tflite", "sha256", "install") { Bundle.open(files, Given.API) }
        files.files["litert/fake.tflite"] = "cut".toByteArray()
        refused(BundleFault.DAMAGED, "3 bytes") { Bundle.open(files, Given.API) }
    }

    @Test fun whatNoHashVouchesForIsNotRead() {
        val classifier = manifestText("classifier", "window", labels = 2)
        refused(BundleFault.INVALID, "no `files`", "export the bundle again") {
            parse(classifier.replace("\"files\":[]", "\"more\":[]"))
        }
        val turned = fakeFiles(classifier, listOf("a", "b")).apply { files["labels.txt"] = "b\na\n".toByteArray() }
        refused(BundleFault.DAMAGED, "labels.txt", "sha256") { Bundle.open(turned, Given.API) }
        val unlisted =
            fakeFiles(
                classifier,
                listOf("a", "b"),
            ).apply { files["manifest.json"] = classifier.toByteArray() }
        refused(BundleFault.INVALID, "labels.txt", "nothing vouches") { Bundle.open(unlisted, Given.API) }
        val bundle = fakeClassifier()
        refused(BundleFault.INVALID, "stay inside") { bundle.files.floats("golden/../../manifest.json") }
        refused(BundleFault.INVALID, "nothing vouches") { bundle.read("golden/../../manifest.json") }
        val longer = fakeFiles(classifier, listOf("a", "b")).apply { files["labels.txt"] = "a\nb\nc\n".toByteArray() }
        refused(BundleFault.DAMAGED, "more than 4 bytes") { Bundle.open(longer, Given.API) }
    }

    @Test fun pathsAndNamesThatLeaveTheBundleAreNotInside() {
        val bad =
            listOf(
                "",
                "/a",
                "a/",
                "a//b",
                "../a",
                "a/../b",
                ".",
                "a/.",
                "a\\b",
                "C:/a",
                "a:b",
                "a\u0000",
                "\ud800",
                "\n",
            )
        for (path in bad + ("a/".repeat(600) + "a")) assertFalse(isInside(path), path)
        for (path in listOf("a", "a/b.f32", "a b/ü.txt", "..a", "a..b/c")) assertTrue(isInside(path), path)
        for (name in listOf(
            "",
            ".git",
            "-x",
            "a/b",
            "a b",
            "ü",
            "a\u0000",
            "x".repeat(129),
        )) {
            assertFalse(isName(name), name)
        }
        assertTrue(isName("tiny_2.f32-x"))
    }

    @Test fun foreignTextIsShownAndNeverObeyed() {
        assertEquals("a\\x1b[31m\\x0ab", printable("a\u001b[31m\nb"))
        assertEquals("\\u202ecod\\ud800\\u200b", printable("\u202ecod\ud800\u200b"))
        assertEquals("Vögel 🐦", printable("Vögel 🐦"))
        assertEquals("\\U000e0041", printable(String(Character.toChars(0xe0041))))
        val long = printable("expected " + "x".repeat(5000) + "; do this")
        assertEquals(300, long.length)
        assertTrue(long.startsWith("expected") && long.endsWith("do this"))
        val message = BundleException(BundleFault.INVALID, "\u001b]0;x\u0007" + "y".repeat(900)).message!!
        assertTrue(message.startsWith("\\x1b]0;x\\x07") && message.length == 300, message)
    }

    @Test fun missingFilesAreRefused() {
        val noManifest = fakeFiles(manifestText()).apply { files.remove("manifest.json") }
        refused(BundleFault.MISSING, "manifest.json") { Bundle.open(noManifest, Given.API) }
        val noModel = fakeFiles(manifestText()).apply { files.remove("litert/fake.tflite") }
        refused(BundleFault.MISSING, "litert-fp32", "install") { Bundle.open(noModel, Given.API) }
        val classifier = manifestText("classifier", "window", labels = 2)
        val noLabels = fakeFiles(classifier).apply { files.remove("labels.txt") }
        refused(BundleFault.MISSING, "labels.txt") { Bundle.open(noLabels, Given.API) }
        refused(BundleFault.INVALID, "expected 2 labels", "got 3") {
            Bundle.open(fakeFiles(classifier, listOf("a", "b", "c")), Given.API)
        }
    }

    @Test fun anOlderAndroidIsRefused() =
        refused(BundleFault.INVALID, "API 26", "has 25") { Bundle.open(fakeFiles(manifestText()), 25) }

    @Test fun invalidManifestsNameTheFieldWhatWasExpectedAndWhatCame() {
        val good = manifestText()

        fun broken(
            from: String,
            to: String,
            vararg words: String,
        ) {
            assertTrue(from in good, "the test's own text changed: $from")
            refused(BundleFault.INVALID, *words) { parse(good.replace(from, to)) }
        }
        refused(BundleFault.INVALID, "not JSON") { parse("{") }
        refused(BundleFault.INVALID, "schema", "null") { parse("{}") }
        broken("\"task\":\"enhancer\"", "\"task\":\"embedder\"", "task", "classifier or enhancer", "embedder")
        broken("\"hop_samples\":4", "\"hop_samples\":0", "geometry.hop_samples", "at least 1", "0")
        broken("\"hop_samples\":4", "\"hop_samples\":1e12", "geometry.hop_samples", "at most 16777216")
        broken("\"sample_rate_hz\":16000", "\"sample_rate_hz\":1e15", "sample_rate_hz", "at most 192000")
        broken("\"shape\":[1,2]", "\"shape\":[1099511627776,2]", "states.0.shape", "elements")
        broken("\"shape\":[1,2]", "\"shape\":[]", "states.0.shape", "1 to 8 axes")
        broken("\"reset\":\"zeros\"", "\"reset\":\"../../build.gradle.kts\"", "states.0.reset", "zeros")
        broken("\"name\":\"fake\"", "\"name\":\"../../..\"", "name", "letters")
        broken("\"name\":\"enhanced\"", "\"name\":\"../enhanced\"", "outputs.0.name", "letters")
        refused(BundleFault.INVALID, "something stands after it") { parse(good + "{}") }
        refused(BundleFault.INVALID, "not JSON") { parse("[".repeat(200_000)) }
        refused(BundleFault.INVALID, "not JSON") { parse("{\"a\":".repeat(200_000)) }
        broken("\"hop_samples\":4", "\"hop_samples\":\"4\"", "geometry.hop_samples")
        broken("\"hop_samples\":4", "\"hop_samples\":2", "buffer.samples is 4", "give 2")
        broken("\"channels\":1", "\"channels\":2", "mono")
        broken("\"name\":\"audio\"", "\"name\":\"x\"", "the first input must be `audio`")
        broken("],\"outputs\"", ",$FAR],\"outputs\"", "this app feeds `audio` alone", "takes far")
        broken("\"dtype\":\"float32\"", "\"dtype\":\"int8\"", "float32", "int8")
        broken("\"in\":\"h\",", "", "states.0.in", "nothing")
        broken("litert/fake.tflite", "../fake.tflite", "path inside the bundle")
        broken("[\"cpu\",\"gpu\"]", "[\"tpu\"]", "cpu, gpu or npu", "tpu")
        broken("\"task\":\"enhancer\"", "\"task\":\"classifier\"", "must have `decisions`")
    }

    @Test fun outputsBehindTheTasksOwnAreNoObstacle() {
        val vad = FAR.replace("far", "vad")
        val text = manifestText().replace("],\n        \"states\"", ",$vad],\n        \"states\"")
        val manifest = parse(text)
        assertEquals(listOf("enhanced", "vad"), manifest.outputs.map { it.name })
    }

    @Test fun dspThatIsNotKnownIsRefused() {
        fun dsp(
            stages: String,
            vararg words: String,
        ) = refused(BundleFault.INVALID, *words) { parse(manifestText(more = ",\"dsp\":[$stages]")) }
        dsp("{\"kind\":\"reverb\"}", "reverb", "valid: highpass")
        dsp("{\"kind\":\"gain\",\"gain_db\":1,\"soft\":1}", "no field soft")
        dsp("{\"kind\":\"gain\",\"gain_db\":99}", "gain.gain_db", "-60.0 to 40.0", "99")
        dsp("{\"kind\":\"gain\",\"gain_db\":0},{\"kind\":\"highpass\",\"cutoff_hz\":80}", "in this order")
        dsp("{\"kind\":\"gate\",\"threshold_dbfs\":-50}", "windowed classifiers")
        dsp("{\"kind\":\"highpass\",\"cutoff_hz\":7900}", "0.45")
    }

    @Test fun unknownKeysOfWhatPeopleEditAreRefusedByName() {
        val good = manifestText("classifier", "window", labels = 2)
        refused(BundleFault.INVALID, "decisions.on_treshold: unknown key", "on_threshold") {
            parse(good.replace("\"on_threshold\"", "\"on_treshold\""))
        }
        refused(BundleFault.INVALID, "decisions.per_label.a.min_on: unknown key", "min_on_ms") {
            parse(good.replace("\"per_label\":{}", "\"per_label\":{\"a\":{\"min_on\":1}}"))
        }
        refused(BundleFault.INVALID, "playout.prefil: unknown key", "prefill_samples") {
            parse(manifestText(more = ",\"playout\":{\"prefil\":1}"))
        }
        refused(BundleFault.INVALID, "smoothing_windows", "at most 10000") {
            parse(good.replace("\"smoothing_windows\":2", "\"smoothing_windows\":1e12"))
        }
    }

    @Test fun decisionsAboutAnUnknownLabelAreRefused() {
        val more =
            manifestText(
                "classifier",
                "window",
                labels = 2,
            ).replace("\"per_label\":{}", "\"per_label\":{\"cow\":{}}")
        val bundle = Bundle.open(fakeFiles(more, listOf("a", "b")), Given.API)
        refused(BundleFault.INVALID, "cow") { DecisionTracker(bundle.manifest.decisions!!, bundle.labels, 16000) {} }
        refused(BundleFault.INVALID, "off_threshold", "above") {
            parse(
                manifestText(
                    "classifier",
                    "window",
                    labels = 2,
                ).replace("\"off_threshold\":0.3", "\"off_threshold\":0.9"),
            )
        }
    }

    @Test fun aModelIsCopiedOnceAndWhatNoBundleWantsIsDeleted() {
        val folder = Given.scratch("models")
        val store = ModelStore(folder)
        val files = fakeFiles(manifestText())
        val bundle = Bundle.open(files, Given.API)
        val first = store.file(bundle)
        assertEquals(MODEL.toList(), first.readBytes().toList())
        files.files.remove("litert/fake.tflite")
        assertEquals(first, store.file(bundle), "copied already: the bundle is not read again")
        store.keep(listOf(bundle))
        assertEquals(listOf(first.name), folder.list()!!.toList())
        store.keep(emptyList())
        assertEquals(0, folder.list()!!.size)
        refused(BundleFault.MISSING, "litert/fake.tflite") { store.file(bundle) }
    }

    @Test fun aModelThatChangesWhileItIsCopiedIsNoModel() {
        val folder = Given.scratch("changing-models")
        val files = fakeFiles(manifestText())
        val bundle = Bundle.open(files, Given.API)
        files.files["litert/fake.tflite"] = "b model".toByteArray()
        refused(BundleFault.DAMAGED, "while it was copied") { ModelStore(folder).file(bundle) }
        assertEquals(0, folder.list()!!.size)
    }
}
