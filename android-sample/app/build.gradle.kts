// tools/android/apk.py reads the numbers of defaultConfig from this file: what CI builds is what Gradle builds.
plugins {
    alias(libs.plugins.android.application)
}

android {
    namespace = "hearpack.app"
    compileSdk {
        version = release(37) { minorApiLevel = 0 }
    }

    defaultConfig {
        applicationId = "dev.hearpack.sample"
        minSdk = 26
        targetSdk = 37
        versionCode = 1
        versionName = "0.1.0"
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }

    androidResources {
        // Models do not shrink, and are copied once to where LiteRT can map them: the faster as they are.
        noCompress += "tflite"
    }

    buildTypes {
        release {
            // Times of a debug build are not for a device profile: a release build runs from Android Studio as it is.
            signingConfig = signingConfigs.getByName("debug")
        }
    }
}

dependencies {
    implementation(project(":hearpack"))
    androidTestImplementation(libs.test.junit)
    androidTestImplementation(libs.test.runner)
}
